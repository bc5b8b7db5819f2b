package lab

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// worker is the lab's view of a pod's or client's process.
type worker struct {
	*proc
	host *host
	pod  podPlan // a pod's
	line line
	mu   sync.Mutex // one order at a time
}

// dead says whether the worker was killed: nobody is there to take orders.
func (w *worker) dead() bool { return w.wanted.Load() }

// employ starts a worker on a host; a pod gets a network of its own.
func (c *Cluster) employ(h *host, name string, pod bool) (*worker, error) {
	ours, theirs, err := linePair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	out, err := c.childLog(h, name)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer out.Close()
	p, err := h.spawn(name, spawn{Argv: childArgv(c.opts.Child, roleWorker, c.id, name), NewNet: pod}, out, out, theirs)
	if err != nil {
		ours.Close()
		return nil, err
	}
	return &worker{proc: p, host: h, line: ours}, nil
}

// childLog returns a file whose text goes to the log, for a child's standard output and error.
func (c *Cluster) childLog(h *host, name string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	c.drains.Go(func() { drain(r, h.log.With("process", name), slog.LevelWarn) })
	return w, nil
}

// do gives an order and waits for the report, at most the given time.
func (w *worker) do(o order, within time.Duration) (report, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var r report
	if err := w.line.send(o); err != nil {
		return r, fmt.Errorf("order %s: %w", w.name, err)
	}
	if err := w.line.SetReadDeadline(time.Now().Add(within)); err != nil {
		return r, fmt.Errorf("order %s: %w", w.name, err)
	}
	if _, err := w.line.receive(&r); errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%s ended", w.name)
	} else if err != nil {
		return r, fmt.Errorf("report of %s: %w", w.name, err)
	}
	if r.Err != "" {
		return r, fmt.Errorf("%s: %s", w.name, r.Err)
	}
	return r, nil
}
