package lab

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// startPods starts the service's pods and the calling pod, and returns when the service listens.
func (c *Cluster) startPods() error {
	p := c.plan
	steps := []func() error{func() (err error) {
		c.caller, err = c.startPod(p.Caller, 0, order{})
		return err
	}}
	for i, pod := range p.Pods {
		steps = append(steps, func() (err error) {
			c.servers[i], err = c.startPod(pod, i+1, order{Serve: c.serveSpec()})
			return err
		})
	}
	return together(steps...)
}

func (c *Cluster) serveSpec() *serveSpec {
	return &serveSpec{Port: c.plan.Service.TargetPort, Ping: c.opts.Ping}
}

// startPod starts a pod's process on its node and gives it its first order.
func (c *Cluster) startPod(pod podPlan, index int, o order) (*worker, error) {
	h := c.node(pod.Node)
	if h == nil {
		return nil, fmt.Errorf("%s cannot start: its node has no power", pod.Name)
	}
	w, err := c.employ(h, pod.Name, true)
	if err != nil {
		return nil, err
	}
	if err := c.plugPod(h, pod, index, w.net); err != nil {
		return w, err
	}
	w.pod = pod
	o.Hostname = pod.Name
	_, err = w.do(o, orderWait)
	return w, err
}

// orderWait bounds how long a worker may take over anything but connecting; see answerWait.
const orderWait = 2 * time.Minute

// endpoints returns the pods that the service leads to.
func (c *Cluster) endpoints() []podPlan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.pods)
}

// backends returns the workers of the pods that the service leads to.
func (c *Cluster) backends() []*worker {
	pods := c.endpoints()
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*worker
	for _, w := range c.servers {
		if slices.ContainsFunc(pods, func(p podPlan) bool { return p.UID == w.pod.UID }) {
			out = append(out, w)
		}
	}
	return out
}

// setBackends keeps those endpoints of which keep holds, adds others, and lets the API and every node's rules say so.
func (c *Cluster) setBackends(keep func(podPlan) bool, more ...podPlan) error {
	c.mu.Lock()
	kept := slices.DeleteFunc(slices.Clone(c.pods), func(p podPlan) bool { return !keep(p) })
	c.pods = append(kept, more...)
	c.mu.Unlock()
	c.serviceChanged(time.Now())
	var errs []error
	for k := range c.plan.Nodes {
		if h := c.node(k); h != nil {
			errs = append(errs, c.writeRules(k, h))
		}
	}
	return errors.Join(errs...)
}

// replacement is a pod that takes another one's place on a node, under a name and address of its own.
func (c *Cluster) replacement(old podPlan, node int) podPlan {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := old
	p.Node, p.UID, p.MAC = node, c.spare.uuid(), c.spare.mac()
	p.Name = old.Name[:len(old.Name)-5] + c.spare.hash(5) // the last part is drawn for each pod
	taken := append(slices.Clone(c.pods), c.plan.Caller, c.caller.pod)
	for n := 2; ; n++ {
		p.Addr = nth(c.plan.Nodes[node].CIDR, n)
		if !slices.ContainsFunc(taken, func(o podPlan) bool { return o.Addr == p.Addr }) {
			return p
		}
	}
}

// startBackend starts a pod that is not in the plan, and lets the API say so. It is no endpoint yet.
func (c *Cluster) startBackend(pod podPlan) error {
	w, err := c.startPod(pod, c.podCable(), order{Serve: c.serveSpec()})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.servers = append(c.servers, w)
	c.mu.Unlock()
	c.podAdded(pod, time.Now())
	return nil
}

// podCable numbers a cable for a pod that was not in the plan.
func (c *Cluster) podCable() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links++
	return c.links
}
