// Package relief closes sockets that are proven dead, so that their applications learn of it now instead of minutes later.
// It acts on this machine only, on exact sockets, at a gentle pace, and never on one that has made progress since it was
// judged. It must not know how a verdict comes about, and nothing but a command that the user typed may use it.
package relief
