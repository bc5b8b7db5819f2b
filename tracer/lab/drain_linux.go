package lab

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// How a node is drained and restarted: much faster than people do it, so that it fits into a lab.
const (
	podReady    = 500 * time.Millisecond  // until a pod that takes another's place is an endpoint
	restartDown = 1500 * time.Millisecond // without power
	goodbyeWait = 3 * time.Second         // for an agent that was asked to end
	nodeRemoved = 5 * time.Second         // until a cloud controller has seen that a machine is gone: its period
)

// drained: the victim is cordoned, taken out of the balancer, and when its connections have ended it is switched off.
func drained(c *Cluster) (time.Time, error) {
	at := time.Now()
	k := c.plan.Victim
	c.story("the drain", func() error {
		if err := c.drain(k); err != nil {
			return err
		}
		if err := c.shutDown(k); err != nil {
			return err
		}
		c.nodeRemoved(k, time.Now().Add(nodeRemoved))
		c.pause(nodeRemoved)
		return nil
	})
	return at, nil
}

// rolling: one node after another is drained, restarted and put back, the pods' own last, and so on round after round.
func rolling(c *Cluster) (time.Time, error) {
	at := time.Now()
	c.story("the first round of restarts", func() error {
		err := c.restartAll()
		if err == nil {
			c.again(time.Second, "the restarts", func() {}, c.restartAll)
		}
		return err
	})
	return at, nil
}

func (c *Cluster) restartAll() error {
	order := make([]int, 0, len(c.plan.Nodes))
	for k := range c.plan.Nodes {
		order = append(order, k)
	}
	slices.SortStableFunc(order, func(a, b int) int { return c.populated(a) - c.populated(b) })
	for _, k := range order {
		if err := c.restart(k); err != nil {
			return fmt.Errorf("restart %s: %w", c.plan.Nodes[k].Name, err)
		}
	}
	return nil
}

// populated is 0 for nodes without pods, 1 for that of the calling pod, 2 for those of the service's.
func (c *Cluster) populated(k int) int {
	switch {
	case slices.ContainsFunc(c.endpoints(), func(p podPlan) bool { return p.Node == k }):
		return 2
	case c.calling().pod.Node == k:
		return 1
	}
	return 0
}

func (c *Cluster) calling() *worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caller
}

func (c *Cluster) restart(k int) error {
	caller := c.calling().pod
	if err := c.drain(k); err != nil {
		return err
	}
	if err := c.shutDown(k); err != nil {
		return err
	}
	if !c.pause(restartDown) {
		return nil
	}
	if err := c.bootNode(k); err != nil {
		return err
	}
	c.nodeBack(k, time.Now())
	if c.opts.hasAgent(k) {
		if err := c.startAgent(c.node(k)); err != nil {
			return err
		}
	}
	if !c.pause(statusAfterBoot) {
		return nil
	}
	c.setNode(k, nodeState{}) // uncordoned
	if err := c.tell(order{Avoid: &[]int{}}, orderWait); err != nil {
		return err
	}
	if caller.Node != k {
		return nil
	}
	return c.callFrom(c.replacement(caller, k))
}

// drain moves everything away from node k: what stands there, and what crosses it. Nothing new goes by the others either.
func (c *Cluster) drain(k int, others ...int) error {
	c.setNode(k, nodeState{taints: []string{"node.kubernetes.io/unschedulable:NoSchedule"}})
	here := func(p podPlan) bool { return p.Node == k }
	var old []*worker
	for _, w := range c.backends() {
		if here(w.pod) {
			old = append(old, w)
		}
	}
	if err := c.moveBackends(k, old); err != nil {
		return err
	}
	avoid := append(others, k)
	if err := c.tell(order{Avoid: &avoid}, orderWait); err != nil {
		return err
	}
	going := old
	if w := c.calling(); here(w.pod) {
		going = append(going, w)
	}
	steps := []func() error{func() error {
		return c.tell(order{Leave: &leaveSpec{Entry: k, Within: c.opts.drainFor}}, c.opts.drainFor+orderWait)
	}}
	for _, w := range going {
		steps = append(steps, func() error {
			_, err := w.do(order{Quit: c.opts.drainFor}, 2*c.opts.drainFor+orderWait)
			return err
		})
	}
	if err := together(steps...); err != nil {
		return err
	}
	for _, w := range going {
		if err := w.kill(); err != nil {
			return err
		}
		c.podRemoved(w.pod, time.Now())
	}
	return nil
}

// moveBackends starts a pod elsewhere for each of the given ones on node k and makes it an endpoint in their place.
func (c *Cluster) moveBackends(k int, old []*worker) error {
	var more []podPlan
	for _, w := range old {
		pod := c.replacement(w.pod, (k+1)%len(c.plan.Nodes))
		if err := c.startBackend(pod); err != nil {
			return err
		}
		more = append(more, pod)
	}
	if len(more) == 0 || !c.pause(podReady) {
		return nil
	}
	return c.setBackends(func(p podPlan) bool { return p.Node != k }, more...)
}

// callFrom starts a calling pod and lets it make the connections that the calling pod of the plan made.
func (c *Cluster) callFrom(pod podPlan) error {
	w, err := c.startPod(pod, c.podCable(), order{})
	if err != nil {
		return err
	}
	c.podAdded(pod, time.Now())
	c.mu.Lock()
	c.caller = w
	c.mu.Unlock()
	for _, s := range c.plan.shares(c.opts, c.scenario.direct) {
		if s.from == fromCaller {
			return c.begin(w, s)
		}
	}
	return nil
}

// shutDown switches node k off as its own init would: the agent is asked to end, and the API told.
func (c *Cluster) shutDown(k int) error {
	h := c.node(k)
	if h == nil {
		return fmt.Errorf("%s has no power already", c.plan.Nodes[k].Name)
	}
	c.setNode(k, nodeState{ready: "false", taints: []string{
		"node.kubernetes.io/unschedulable:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule",
	}})
	c.mu.Lock()
	agent := c.agentProcs[h]
	c.mu.Unlock()
	if agent != nil {
		agent.wanted.Store(true)
		if err := agent.signal(unix.SIGTERM); err != nil {
			return err
		}
		late := time.NewTimer(goodbyeWait)
		defer late.Stop()
		select {
		case <-agent.done:
		case <-late.C:
			c.log.Warn("an agent did not end when it was asked to", "node", h.name)
		case <-c.closed:
		}
	}
	_, err := c.cutPower(k)
	return err
}
