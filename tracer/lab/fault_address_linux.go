package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/midhop/midhop/tracer/event"
)

// Faults after which an address is somebody else's.

// addressReused: the victim loses power, and when its object has been deleted a new node gets its address.
func addressReused(c *Cluster) (time.Time, error) {
	k := c.plan.Victim
	at, err := c.cutPower(k)
	if err != nil {
		return at, err
	}
	gone := c.nodeFact(k)
	c.say(at.Add(min(nodeRemoved, c.opts.downFor)), event.NodeChanged, func() event.Body { return &event.NodeFact{What: "removed", Node: gone} })
	c.later(c.opts.downFor, "the heir", func() error {
		h, err := c.arrive(k, c.plan.Heir)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.nodes, c.boots = append(c.nodes, h), append(c.boots, h.bootID)
		c.mu.Unlock()
		return c.newcomer(k, h, c.plan.Heir, "added")
	})
	return at, nil
}

// newcomer lets the API hear of a node that has just come up in node k's place, and starts its agent.
func (c *Cluster) newcomer(k int, h *host, n nodePlan, what string) error {
	fact := c.objectOf(n)
	fact.BootID = h.bootID
	if what == "added" {
		fact.Created = time.Now().UTC()
	}
	c.say(time.Now().Add(statusAfterBoot), event.NodeChanged, func() event.Body { return &event.NodeFact{What: what, Node: fact} })
	if !c.opts.hasAgent(k) {
		return nil
	}
	return c.startAgent(h)
}

// returnsElsewhere: the victim loses power. Another node is drained and restarted as it should be, and comes back under the
// victim's address, as a lease or an operator gives it out.
func returnsElsewhere(c *Cluster) (time.Time, error) {
	p := c.plan
	at, err := c.powerOff(p.Victim)
	if err != nil {
		return at, err
	}
	c.story("the node that comes back", func() error {
		if err := c.drain(p.Second, p.Victim); err != nil {
			return err
		}
		if err := c.shutDown(p.Second); err != nil {
			return err
		}
		if !c.pause(restartDown) {
			return nil
		}
		n := p.Nodes[p.Second]
		n.Addr = p.Nodes[p.Victim].Addr
		h, err := c.arrive(p.Second, n)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.nodes[p.Second], c.boots[p.Second] = h, h.bootID
		c.mu.Unlock()
		return c.newcomer(p.Second, h, n, "rebooted")
	})
	return at, nil
}

// floatingAddress: the address that the victim masquerades by moves to another node. Both live, and the victim's entries stay.
func floatingAddress(c *Cluster) (time.Time, error) {
	p := c.plan
	from, to := c.node(p.Victim), p.Nodes[p.Second]
	l, err := from.net.LinkByName(uplink)
	if err != nil {
		return time.Time{}, fmt.Errorf("find link %s: %w", uplink, err)
	}
	at := time.Now()
	if err := from.net.AddrDel(l, &netlink.Addr{IPNet: ipNet(whole(p.Floating))}); err != nil {
		return at, fmt.Errorf("take %s from %s: %w", p.Floating, from.name, err)
	}
	if err := c.node(p.Second).net.addr(uplink, whole(p.Floating)); err != nil {
		return at, err
	}
	return at, c.learn(p.Floating, netip.Prefix{}, to)
}

// podAddressReused: the first pod of the service vanishes, and the one that takes its place gets its address: whoever speaks to
// the old one is reset by the new one.
func podAddressReused(c *Cluster) (time.Time, error) {
	w, pod := c.servers[0], c.plan.Pods[0]
	at, err := c.node(pod.Node).net.cut(podLink(1))
	err = errors.Join(err, w.kill())
	c.podRemoved(pod, at)
	c.later(podRemovedAfter, "the pod's heir", func() error {
		next := c.replacement(pod, pod.Node)
		next.Addr = pod.Addr
		if err := c.startBackend(next); err != nil {
			return err
		}
		return c.setBackends(func(p podPlan) bool { return p.UID != pod.UID }, next)
	})
	return at, err
}
