package lab

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// podGone: the first pod of the service vanishes. As soon as the API has noticed, its controller starts another one, which
// takes its place among the endpoints; the nodes' conntrack entries that lead to the first stay.
func podGone(c *Cluster) (time.Time, error) {
	w, pod := c.servers[0], c.plan.Pods[0]
	h := c.node(c.plan.Home)
	at, err := h.net.cut(podLink(1))
	err = errors.Join(err, w.kill())
	c.podRemoved(pod, at)
	c.later(podRemovedAfter, "the pod's successor", func() error {
		next := c.replacement(pod, pod.Node)
		if err := c.startBackend(next); err != nil {
			return err
		}
		return c.setBackends(func(p podPlan) bool { return p.UID != pod.UID }, next)
	})
	return at, err
}

// serviceDown: all pods of the service vanish, one right after the other, and nothing takes their place. When the API has
// noticed, nodes refuse new connections to the service; the entries that lead to the pods stay.
func serviceDown(c *Cluster) (time.Time, error) {
	h := c.node(c.plan.Home)
	var first time.Time
	var errs []error
	for i, pod := range c.plan.Pods {
		at, err := h.net.cut(podLink(i + 1))
		errs = append(errs, err, c.servers[i].kill())
		if first.IsZero() {
			first = at
		}
		c.podRemoved(pod, at)
	}
	c.later(podRemovedAfter, "the service's endpoints", func() error {
		return c.setBackends(func(podPlan) bool { return false })
	})
	return first, errors.Join(errs...)
}

// clientGone: the outside clients' network loses power.
func clientGone(c *Cluster) (time.Time, error) {
	at, err := c.fabric.cut(c.fabricLink(c.plan.External.Name[:1]))
	c.external.strike()
	c.drains.Go(c.external.bury)
	return at, err
}

// readerHung: the outside clients' program hangs. Its kernel goes on answering for it, with a window that closes.
func readerHung(c *Cluster) (time.Time, error) {
	at := time.Now()
	for _, w := range c.callers {
		if w.host != c.external {
			continue
		}
		if err := w.signal(unix.SIGSTOP); err != nil {
			return at, err
		}
	}
	return at, nil
}
