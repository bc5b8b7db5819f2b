// Package screen holds the screens: nodes, incidents, one incident, sockets, log and help. Each draws a part of the
// terminal from a model.Snapshot and names its keys; none may know where snapshots come from, wait for anything, or keep
// a goroutine.
package screen
