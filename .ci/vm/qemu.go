package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A guest is one boot of one kernel: what it said, and how each job ended.
type guest struct {
	boot, total time.Duration
	loaded      int      // modules
	unloadable  []string // modules that insmod refused, with its reason
	outputs     [][]byte // by job
	exits       []int    // by job; -1: not reached
	ended       bool     // the script came to its end
}

const marker = "@@vm "

// boot runs a kernel with the root until it has powered itself off, or the context ends; log receives the kernel's own messages.
func boot(ctx context.Context, k image, root, log string, memory int, jobs []job) (*guest, error) {
	args := []string{"-smp", "2", "-m", strconv.Itoa(memory), "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", k.vmlinuz, "-initrd", root, "-append", k.on.append + " quiet panic=-1"}
	for _, a := range k.on.args {
		args = append(args, strings.Replace(a, "CONSOLE", log, 1))
	}
	cmd := exec.CommandContext(ctx, k.on.qemu, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	// A guest must not outlive a killed harness. The signal is bound to the thread that starts the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &guest{outputs: make([][]byte, len(jobs)), exits: make([]int, len(jobs))}
	for i := range g.exits {
		g.exits[i] = -1
	}
	readErr := g.read(out, k.name, start, jobs)
	if g.ended {
		// It powers off by itself; if it hangs doing so the results are in all the same.
		timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer timer.Stop()
	}
	waitErr := cmd.Wait()
	g.total = time.Since(start)
	switch {
	case ctx.Err() != nil && !g.ended:
		return g, fmt.Errorf("the guest was stopped after %s: %w%s", g.total.Round(time.Second), context.Cause(ctx), lastWords(log))
	case !g.ended:
		return g, fmt.Errorf("the guest ended before its script did: %w%s%s", errors.Join(readErr, waitErr), stderr.String(), lastWords(log))
	}
	return g, nil
}

// read follows the second serial line up to the end marker.
func (g *guest) read(r io.Reader, name string, start time.Time, jobs []job) error {
	at := func() time.Duration { return time.Since(start).Round(100 * time.Millisecond) }
	current, began := -1, time.Time{}
	lines := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if words := strings.Fields(string(line)); strings.HasPrefix(string(line), marker) && len(words) > 1 {
			rest := strings.Join(words[2:], " ")
			number, _ := strconv.Atoi(append(words, "", "")[2])
			switch words[1] {
			case "boot":
				g.boot = time.Since(start)
				say("%s: %s up after %s", name, rest, at())
			case "module":
				g.unloadable = append(g.unloadable, rest)
			case "modules":
				g.loaded = number
				say("%s: %d modules in after %s", name, number, at())
			case "start":
				current, began = number, time.Now()
				say("%s: %s starts after %s", name, jobs[number].name, at())
			case "exit":
				g.exits[number], current = status(words), -1
				say("%s: %s ended with %d after %s", name, jobs[number].name, g.exits[number], time.Since(began).Round(100*time.Millisecond))
			case "end":
				g.ended = true
				return nil
			}
		} else if current >= 0 {
			g.outputs[current] = append(g.outputs[current], line...)
		}
		if err != nil {
			return err
		}
	}
}

// status reads "@@vm exit JOB STATUS"; a job that left none was not run to its end.
func status(words []string) int {
	if len(words) > 3 {
		if n, err := strconv.Atoi(words[3]); err == nil {
			return n
		}
	}
	return -1
}

// lastWords gives the end of the kernel's console.
func lastWords(log string) string {
	data, err := os.ReadFile(log)
	if err != nil || len(data) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return "\nthe kernel's last words (" + filepath.Base(log) + "):\n" + strings.Join(lines[max(0, len(lines)-40):], "\n")
}
