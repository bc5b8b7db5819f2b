package lab

import (
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// How long a node that forgets remembers a silent connection, and over which time the silent ones then speak.
const (
	forgetAfter = 4 * time.Second
	speakWithin = 5 * time.Second
)

// idleExpired: the victim's conntrack forgets connections that are silent for some seconds, as a short timeout makes it,
// each at its own time, and when it has, the service has something to say on every silent connection.
func idleExpired(c *Cluster) (time.Time, error) {
	at, err := c.forgetIdle(c.plan.Victim)
	if err == nil {
		c.later(forgetAfter+time.Second, "the silent connections", func() error { return c.speak(c.backends()...) })
	}
	return at, err
}

// ownNodeIdle: the same on the node of the calling pod, which then has something to say.
func ownNodeIdle(c *Cluster) (time.Time, error) {
	at, err := c.forgetIdle(c.plan.Caller.Node)
	if err == nil {
		c.later(forgetAfter+time.Second, "the silent connections", func() error { return c.speak(c.calling()) })
	}
	return at, err
}

// speak lets workers say something on every silent connection, and returns when they have.
func (c *Cluster) speak(workers ...*worker) error {
	for _, w := range workers {
		if _, err := w.do(order{Speak: speakWithin}, orderWait); err != nil {
			return err
		}
	}
	c.pause(speakWithin)
	return nil
}

// forgetIdle lets node k's conntrack forget who is silent for some seconds.
func (c *Cluster) forgetIdle(k int) (time.Time, error) {
	h := c.node(k)
	at := time.Now()
	limit := uint32(forgetAfter / time.Second)
	if err := h.net.sysctls(fmt.Sprintf("netfilter/nf_conntrack_tcp_timeout_established=%d", limit)); err != nil {
		return at, err
	}
	// The setting is for entries that a packet touches from now on: the others keep what is left of five days. They would
	// have been silent for different times.
	conn, err := conntrack.Dial(&netlink.Config{NetNS: h.net.fd()})
	if err != nil {
		return at, fmt.Errorf("conntrack of %s: %w", h.name, err)
	}
	defer conn.Close()
	flows, err := conn.Dump(nil)
	if err != nil {
		return at, fmt.Errorf("conntrack of %s: %w", h.name, err)
	}
	for i, f := range flows {
		if f.TupleOrig.Proto.Protocol != unix.IPPROTO_TCP || f.Timeout <= limit {
			continue
		}
		err := conn.Update(conntrack.Flow{TupleOrig: f.TupleOrig, TupleReply: f.TupleReply, Timeout: 1 + uint32(i)%limit})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return at, fmt.Errorf("shorten an entry of %s: %w", h.name, err)
		}
	}
	return at, nil
}
