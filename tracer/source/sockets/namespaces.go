package sockets

import "sync"

// Namespaces are the network namespaces in which the census met processes or sockets lately. An agent in a namespace of
// processes keeps only what happens in these: tracepoints see the whole machine, its census sees its own processes.
type Namespaces struct {
	mu     sync.RWMutex
	seen   map[uint32]uint64   // the look that met it last
	next   map[uint32]struct{} // by the running look
	passes uint64
	news   chan struct{} // see Changed; nil: nobody has asked
}

// rememberFor is how many looks a namespace stays known for that they do not meet: what happened in it last, such as the
// end of its last socket, may still be on its way through a ring.
const rememberFor = 4

// Known says whether a namespace has processes or sockets of this census.
func (n *Namespaces) Known(netns uint32) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := n.seen[netns]
	return ok
}

// Passes is how many looks were completed. One that began after a moment is complete when this has grown by two.
func (n *Namespaces) Passes() uint64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.passes
}

// Changed has room for one sign that a namespace has become known or a look complete since the last sign was taken. One reader
// may take them; looks that are rare must not be asked for many times a second.
func (n *Namespaces) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.news == nil {
		n.news = make(chan struct{}, 1)
		n.changed() // of what was before, nobody was told
	}
	return n.news
}

// changed gives the sign; n.mu is held.
func (n *Namespaces) changed() {
	if n.news == nil {
		return
	}
	select {
	case n.news <- struct{}{}:
	default:
	}
}

func (n *Namespaces) begin() {
	n.next = make(map[uint32]struct{})
}

func (n *Namespaces) see(netns uint32) {
	if _, ok := n.next[netns]; ok {
		return
	}
	n.next[netns] = struct{}{}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = make(map[uint32]uint64)
	}
	if _, ok := n.seen[netns]; !ok {
		n.changed()
	}
	n.seen[netns] = n.passes + 1
}

// keep notes a namespace at any time.
func (n *Namespaces) keep(netns uint32) {
	if n.next != nil {
		n.see(netns)
		return
	}
	if n.Known(netns) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen != nil {
		n.seen[netns] = n.passes + 1
		n.changed()
	}
}

// abandon ends a look that failed: what it saw stays known.
func (n *Namespaces) abandon() { n.next = nil }

// end completes a look: namespaces that it and those before did not meet are forgotten.
func (n *Namespaces) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = make(map[uint32]uint64)
	}
	n.next = nil
	n.passes++
	n.changed()
	for netns, pass := range n.seen {
		if pass+rememberFor < n.passes {
			delete(n.seen, netns)
		}
	}
}
