// Package sockets is the census: it walks all open TCP sockets again and again, and tells which are new, gone or in
// trouble, and how much moved between whom. It must not know what a peer is, nor what a trouble means.
//
// Healthy sockets cost one line when they come and one when they go; in between they are counted in path.traffic. How
// often the walk is made follows from what it costs ([Options.Budget]), and on suspicion it is made at once and often.
package sockets
