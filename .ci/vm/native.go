package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"
)

// here is the column of this machine.
const here = "here"

// addNative runs the jobs on this machine and adds their column. What its kernel offers stands in no table, so that a test may
// skip here, with its reason, but not fail.
func (r *results) addNative(ctx context.Context, p plan, work string) error {
	jobs, err := buildJobs(ctx, p, work, amd64)
	if err != nil {
		return err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.deadline)
	defer cancel()
	g := &guest{ended: true}
	began := time.Now()
	for _, j := range jobs {
		say("here: %s starts", j.name)
		cmd := exec.CommandContext(ctx, j.path, j.args...)
		cmd.Dir = j.files
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		g.outputs, g.exits = append(g.outputs, out), append(g.exits, cmd.ProcessState.ExitCode())
	}
	g.total = time.Since(began)
	here := image{kernel: kernel{name: here, on: amd64}, release: strings.TrimSpace(string(release))}
	return r.add(ctx, here, jobs, g, nil, nil)
}
