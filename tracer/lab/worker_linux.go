package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// order is what the lab tells a worker.
type order struct {
	Hostname string        `json:"hostname,omitempty"` // of a pod, which has one of its own
	Serve    *serveSpec    `json:"serve,omitempty"`
	Proxy    *proxySpec    `json:"proxy,omitempty"`
	Dial     *dialSpec     `json:"dial,omitempty"`
	Talk     bool          `json:"talk,omitempty"` // begin; once
	Churn    *churnSpec    `json:"churn,omitempty"`
	Visit    *visitSpec    `json:"visit,omitempty"`
	Avoid    *[]int        `json:"avoid,omitempty"` // from now on no new connection by these nodes
	Leave    *leaveSpec    `json:"leave,omitempty"`
	Quit     time.Duration `json:"quit,omitempty"`   // end all connections within this time, as both sides agree
	Vanish   int           `json:"vanish,omitempty"` // so many clients will not be heard of again
	Forget   bool          `json:"forget,omitempty"` // those that vanished have now
	Speak    time.Duration `json:"speak,omitempty"`  // a word on every idle connection within this time
	Tally    bool          `json:"tally,omitempty"`
}

// report is what a worker answers to an order, once each, in order.
type report struct {
	Err      string           `json:"err,omitempty"`
	Tally    *Tally           `json:"tally,omitempty"`
	Vanished []netip.AddrPort `json:"vanished,omitempty"`
}

// workerMain is a pod's or a client's process: it does what it is told until the lab is gone.
func workerMain(ctx context.Context, control *os.File) error {
	l, err := fileLine(control)
	if err != nil {
		return err
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := newWorkload()
	for {
		var o order
		if _, err := l.receive(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		var r report
		if err := w.obey(ctx, o, &r); err != nil {
			r.Err = err.Error()
		}
		if err := l.send(r); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
}

func (w *workload) obey(ctx context.Context, o order, r *report) error {
	if o.Hostname != "" {
		if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
			return fmt.Errorf("set the host name: %w", err)
		}
	}
	if o.Tally {
		t := w.tally()
		r.Tally = &t
	}
	if o.Talk {
		w.talkAll()
	}
	if o.Avoid != nil {
		w.mu.Lock()
		w.avoid = *o.Avoid
		w.mu.Unlock()
	}
	if o.Churn != nil {
		w.comeAndGo(ctx, *o.Churn)
	}
	if o.Leave != nil {
		w.leave(ctx, func(c *conversation) bool { return c.group.Entry == o.Leave.Entry }, o.Leave.Within)
		w.seeOff(func(entry int) bool { return entry == o.Leave.Entry })
	}
	if o.Quit > 0 {
		w.quit(ctx, o.Quit)
	}
	if o.Vanish > 0 {
		r.Vanished = w.vanish(o.Vanish)
	}
	if o.Forget {
		w.forget()
	}
	if o.Speak > 0 {
		w.breakSilence(ctx, o.Speak)
	}
	if o.Visit != nil {
		w.visit(ctx, *o.Visit)
	}
	if o.Proxy != nil {
		if err := w.proxy(ctx, *o.Proxy); err != nil {
			return err
		}
	}
	if o.Serve != nil {
		ln, err := o.Serve.listen(ctx)
		if err != nil {
			return err
		}
		// An error here ends the process and with it, loudly, its connections.
		go func() {
			if err := w.serve(ctx, ln, *o.Serve); err != nil {
				fmt.Fprintln(os.Stderr, "lab service:", err)
				os.Exit(1)
			}
		}()
	}
	if o.Dial != nil {
		return w.dial(ctx, *o.Dial)
	}
	return nil
}
