package lab

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// AgentPipe is what one agent writes: NDJSON facts. A node that comes back after a reboot has a new agent with a new
// pipe.
type AgentPipe struct {
	Node string
	R    io.ReadCloser // never ends before the lab does: a dead agent is silent, as it would be across a network
}

// Agents hands out the pipes of the agents as they are started. The channel is never closed.
func (c *Cluster) Agents() <-chan AgentPipe { return c.agents }

// startAgents starts an agent on every node that shall have one and has power.
func (c *Cluster) startAgents() error {
	var steps []func() error
	for k := range c.plan.Nodes {
		if h := c.node(k); h != nil && c.opts.hasAgent(k) {
			steps = append(steps, func() error { return c.startAgent(h) })
		}
	}
	return together(steps...)
}

func (c *Cluster) startAgent(h *host) error {
	argv := c.opts.AgentArgv(h.name)
	if len(argv) == 0 {
		return fmt.Errorf("no command for the agent of %s", h.name)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer w.Close()
	diag, diagW, err := os.Pipe()
	if err != nil {
		r.Close()
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer diagW.Close()
	c.drains.Go(func() { drain(diag, h.log.With("process", "agent"), slog.LevelInfo) })
	p, err := h.spawn("agent", spawn{Argv: argv, Env: c.opts.AgentEnv, Caps: agentCaps}, w, diagW)
	if err != nil {
		r.Close()
		return err
	}
	c.mu.Lock()
	c.agentProcs[h] = p
	c.pipes = append(c.pipes, r) // else a pipe that nobody reads yet would be collected, and break
	c.mu.Unlock()
	select {
	case c.agents <- AgentPipe{Node: h.name, R: &silence{r: r, lab: c.closed, done: make(chan struct{})}}:
		return nil
	case <-c.closed:
		r.Close()
		return errClosed
	}
}

// agentWait is how long the lab waits for its agents before it goes on without: they take a few tenths of a second.
const agentWait = 3 * time.Second

// awaitAgents waits until every agent has said something or has ended, so that they see connections being made.
func (c *Cluster) awaitAgents() error {
	c.mu.Lock()
	pipes := slices.Clone(c.pipes)
	c.mu.Unlock()
	var steps []func() error
	for _, r := range pipes {
		steps = append(steps, func() error { return readable(r, agentWait) })
	}
	return together(steps...)
}

// readable waits until a pipe holds something or its writers are gone, and takes nothing out of it. That it takes too
// long is no error.
func readable(r *os.File, within time.Duration) error {
	if err := r.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	raw, err := r.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	})
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("wait for an agent: %w", err)
	}
	return r.SetReadDeadline(time.Time{})
}

// silence reads a pipe, at whose end it waits until somebody closes it or the lab ends: over a network nobody hears that a
// machine died.
type silence struct {
	r    *os.File
	lab  <-chan struct{}
	once sync.Once
	done chan struct{}
}

func (s *silence) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if n == 0 && errors.Is(err, io.EOF) {
		select {
		case <-s.done:
		case <-s.lab:
		}
	}
	return n, err
}

func (s *silence) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.r.Close()
}
