package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// faults says how each scenario breaks things, or what else happens in it. A fault returns the moment right before
// anything changed.
var faults = map[string]func(*Cluster) (time.Time, error){
	"node-gone":       nodeGone,
	"node-rebooted":   nodeRebooted,
	"nat-lost":        natLost,
	"vip-moved":       vipMoved,
	"node-lossy":      nodeLossy,
	"table-full":      tableFull,
	"ports-exhausted": portsExhausted,
	"http-502":        nodeGone,
	"two-nodes":       twoNodes,
	"pod-gone":        podGone,
	"service-down":    serviceDown,
	"reader-hung":     readerHung,
	"client-gone":     clientGone,
	"front-gone":      frontGone,
	"pmtu":            pathMTU,
	"pmtu-gone":       pathMTUThenGone,
	"idle-expired":    idleExpired,
	"uplink":          uplinkLost,
	"mobile-clients":  mobileClients,
	"drain":           drained,
	"rolling":         rolling,

	"window-invalid":     windowInvalid,
	"address-reused":     addressReused,
	"returns-elsewhere":  returnsElsewhere,
	"peered-range":       peersGone,
	"quick-reboot":       nodeRebooted,
	"one-way":            oneWay,
	"uplink-returns":     uplinkReturns,
	"backend-node":       nodeGone,
	"egress-node":        nodeGone,
	"partial-backend":    partialBackend,
	"outside-idle":       outsideIdle,
	"own-node-idle":      ownNodeIdle,
	"floating-address":   floatingAddress,
	"pod-address-reused": podAddressReused,
}

// FaultAfter is when the fault is due, from [Cluster.Up] on.
func (c *Cluster) FaultAfter() time.Duration { return c.opts.FaultAfter }

// HasFault says whether the scenario breaks anything at all.
func (c *Cluster) HasFault() bool { return !c.opts.NoFault && faults[c.scenario.Name] != nil }

// Fault breaks what the scenario says, now. It may be called once.
func (c *Cluster) Fault(context.Context) (FaultInfo, error) {
	if !c.HasFault() {
		return FaultInfo{}, fmt.Errorf("scenario %s breaks nothing", c.scenario.Name)
	}
	c.breaking.Lock()
	defer c.breaking.Unlock()
	c.mu.Lock()
	done := c.ended || !c.fault.Time.IsZero()
	c.mu.Unlock()
	if done {
		return FaultInfo{}, errors.New("the fault was made already, or the lab is closed")
	}
	at, err := faults[c.scenario.Name](c)
	if err != nil {
		return FaultInfo{}, fmt.Errorf("make the fault %s: %w", c.scenario.Name, err)
	}
	f := FaultInfo{Scenario: c.scenario.Name, What: c.scenario.Summary, Target: c.scenario.targetName(c.plan), Time: at}
	c.mu.Lock()
	c.fault = f
	c.mu.Unlock()
	c.drains.Go(func() {
		c.stories.Wait()
		close(c.settled)
	})
	return f, nil
}

// Settled is closed when all that the scenario makes happen has happened, and only its effects are left.
func (c *Cluster) Settled() <-chan struct{} { return c.settled }

// Run lets the lab's time pass: it makes the fault when it is due and tells onFault, starts agents that come late, and
// returns when the duration is over or ctx has ended (with nil), or when something failed.
func (c *Cluster) Run(ctx context.Context, onFault func(FaultInfo)) error {
	left, attach := c.opts.Duration, c.opts.FaultAfter+c.opts.AttachAfter
	if !c.until(ctx, c.opts.FaultAfter) {
		return nil
	}
	if c.HasFault() {
		if !c.isWatched(ctx) {
			return nil
		}
		f, err := c.Fault(ctx)
		if err != nil {
			return err
		}
		onFault(f)
		late := max(0, time.Since(c.up)-c.opts.FaultAfter) // a busy machine may take its time over a fault
		left, attach = left+late, attach+late
	}
	if c.opts.AttachAfter > 0 {
		if !c.until(ctx, attach) {
			return nil
		}
		if err := c.startAgents(); err != nil {
			return err
		}
	}
	c.until(ctx, left)
	return nil
}

// isWatched waits until somebody watches, where that was asked for, and returns false where the lab ends before.
func (c *Cluster) isWatched(ctx context.Context) bool {
	if c.opts.Watched == nil || c.opts.AttachAfter > 0 {
		return true
	}
	late := time.NewTimer(watchedWithin)
	defer late.Stop()
	select {
	case <-c.opts.Watched:
		return true
	case <-late.C:
		c.log.Warn("the fault comes though not everybody watches")
		return true
	case <-ctx.Done():
	case <-c.closed:
	}
	return false
}

// AgentNodes are the names of the nodes that run an agent.
func (c *Cluster) AgentNodes() (names []string) {
	for k := range c.plan.Nodes {
		if c.opts.hasAgent(k) {
			names = append(names, c.plan.Nodes[k].Name)
		}
	}
	return names
}

// until waits for a moment counted from when the lab was up, and says whether it came.
func (c *Cluster) until(ctx context.Context, after time.Duration) bool {
	t := time.NewTimer(time.Until(c.up.Add(after)))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-c.closed:
	}
	return false
}

// later runs f after a while as a part of what happens, unless the lab is closed by then. The lab does not go away under it.
func (c *Cluster) later(after time.Duration, what string, f func() error) {
	c.when(func() bool { return c.pause(after) }, what, f)
}

// when runs f as later does, as soon as ripe has returned true; false means that the lab is closed.
func (c *Cluster) when(ripe func() bool, what string, f func() error) {
	c.story(what, func() error {
		if !ripe() {
			return nil
		}
		c.breaking.Lock()
		defer c.breaking.Unlock()
		c.mu.Lock()
		ended := c.ended
		c.mu.Unlock()
		if ended {
			return nil
		}
		return f()
	})
}

// story runs what takes its time. An error is logged: it means that the rest of the run shows something else than the
// scenario says.
func (c *Cluster) story(what string, f func() error) {
	c.stories.Add(1)
	c.drains.Go(func() {
		defer c.stories.Done()
		c.complain(what, f())
	})
}

// again calls f once a period until the lab is closed or f fails, then end.
func (c *Cluster) again(every time.Duration, what string, end func(), f func() error) {
	c.drains.Go(func() {
		defer end()
		for c.pause(every) {
			if err := f(); err != nil {
				c.complain(what, err)
				return
			}
		}
	})
}

func (c *Cluster) complain(what string, err error) {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	if err != nil && !ended {
		c.log.Error("the lab cannot go on", "with", what, "error", err)
	}
}

// awaited waits until a channel is closed, and says whether the lab still stands.
func (c *Cluster) awaited(happened <-chan struct{}) bool {
	select {
	case <-happened:
		return true
	case <-c.closed:
		return false
	}
}

// pause waits, and says whether the lab still stands.
func (c *Cluster) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.closed:
		return false
	}
}
