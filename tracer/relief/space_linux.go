package relief

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// order is what one child process is told.
type order struct {
	Netns   uint32   `json:"netns"`
	PIDs    []int32  `json:"pids"`
	Rate    float64  `json:"rate"` // sockets a second
	Targets []Target `json:"targets"`
}

// Close closes the targets of one namespace at most rate a second, and hands every outcome on as it comes. The work is
// done by a child process, the only one that enters the namespace: argv runs [ChildMain], and ends with the work. An error
// says why targets were left without outcome.
func Close(ctx context.Context, argv []string, s *Space, rate float64, result func(Result)) error {
	in, err := json.Marshal(order{s.Netns, s.PIDs, rate, s.Targets})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// The death signal follows the thread that started the child (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the process that enters the namespace: %w", err)
	}
	answers := json.NewDecoder(out)
	for {
		var r Result
		err = answers.Decode(&r)
		if err != nil {
			break
		}
		result(r)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if werr := cmd.Wait(); werr != nil {
		if text := bytes.TrimSpace(stderr.Bytes()); len(text) > 0 {
			werr = errors.New(string(text))
		}
		return errors.Join(err, werr)
	}
	return err
}

// ChildMain is the process that enters a network namespace: it reads an order from in, closes its targets one by one, and
// writes a line for each to out.
func ChildMain(ctx context.Context, in io.Reader, out io.Writer) error {
	var o order
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	if !(o.Rate > 0) {
		return fmt.Errorf("a rate of %g", o.Rate)
	}
	runtime.LockOSThread() // never unlocked: the thread stays in the namespace and ends with the process
	if err := enter(o.Netns, o.PIDs); err != nil {
		return err
	}
	pace := time.NewTimer(0)
	defer pace.Stop()
	answers := json.NewEncoder(out)
	for i := range o.Targets {
		t := &o.Targets[i]
		outcome, err := closeOne(t)
		r := Result{Cookie: t.Cookie, Outcome: outcome, Time: time.Now()}
		if err != nil {
			r.Err = err.Error()
		}
		if werr := answers.Encode(r); werr != nil {
			return werr
		}
		if errors.Is(err, ErrNoDestroy) {
			return err
		}
		if outcome != Closed {
			continue // no application reconnects because of it
		}
		// From the last one, not on a grid: after a wait for a processor two would follow each other at once.
		pace.Reset(time.Duration(float64(time.Second) / o.Rate))
		select {
		case <-pace.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// enter moves the calling thread into a namespace, by the door of a process in it. A process may have ended and its number
// been given to another, so what counts is the namespace's own number.
func enter(netns uint32, pids []int32) error {
	why := errors.New("no process in it is known")
	for _, pid := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			why = err
			continue
		}
		err = enterBy(f, netns)
		f.Close()
		if err == nil {
			return nil
		}
		why = fmt.Errorf("by process %d: %w", pid, err)
	}
	return fmt.Errorf("enter network namespace %d: %w", netns, why)
}

func enterBy(f *os.File, netns uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if uint32(st.Ino) != netns {
		return fmt.Errorf("it is in namespace %d now", st.Ino)
	}
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}
