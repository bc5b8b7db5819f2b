// Package ui is midhop's terminal application: it shows snapshots on screens and turns keys into moves between them. It
// must not know where snapshots come from, and nothing that makes them ever waits for it.
//
// One goroutine, the one that calls [Run], touches the screen and everything on it. A second one asks for snapshots four
// times a second and hands over the newest; a third reads the keyboard. The screen is drawn when a key was pressed, when
// a snapshot has another version, and once a second for running clocks.
package ui
