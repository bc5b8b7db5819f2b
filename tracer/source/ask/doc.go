// Package ask puts a question to a node that is suspected to be gone, and tells the answer: one TCP connection to one port.
// It must not know why the node is suspected, nor what an answer means.
package ask
