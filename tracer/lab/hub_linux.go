package lab

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bootHub brings up the machine for a fleet's hub: a network of its own behind the fabric, away from every node.
func (c *Cluster) bootHub() (err error) {
	c.hub, err = c.bootClients(c.plan.Hub)
	return err
}

// HubProcess is a process on the hub's machine.
type HubProcess struct{ p *proc }

// Kill ends the process without a goodbye and returns when it is gone.
func (h *HubProcess) Kill() error {
	if err := h.p.kill(); err != nil {
		return err
	}
	<-h.p.done
	return nil
}

// Done is closed when the process has ended.
func (h *HubProcess) Done() <-chan struct{} { return h.p.done }

// StartHub starts a process on the hub's machine. It writes to stdout, and reads facts from descriptor 3.
func (c *Cluster) StartHub(argv []string, stdout, facts *os.File) (*HubProcess, error) {
	if c.hub == nil {
		return nil, errors.New("this lab has no machine for a hub")
	}
	diag, diagW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer diagW.Close()
	c.drains.Go(func() { drain(diag, c.hub.log.With("process", "hub"), slog.LevelInfo) })
	p, err := c.hub.spawn("hub", spawn{Argv: argv, Env: c.opts.AgentEnv}, stdout, diagW, facts)
	if err != nil {
		return nil, err
	}
	return &HubProcess{p}, nil
}

// CutHub drops everything on its way to the hub's machine, or lets it through again: a partition between it and everybody
// else.
func (c *Cluster) CutHub(cut bool) error {
	hole := &netlink.Route{Dst: ipNet(whole(c.plan.Hub.Addrs[0])), Type: unix.RTN_BLACKHOLE}
	if cut {
		return c.fabric.RouteAdd(hole)
	}
	return c.fabric.RouteDel(hole)
}

// HubAddr is the address of the hub's machine.
func HubAddr(family int) netip.Addr {
	if family == 6 {
		return nth(netip.MustParsePrefix(rangesV6.hub), hubHost)
	}
	return nth(netip.MustParsePrefix(rangesV4.hub), hubHost)
}
