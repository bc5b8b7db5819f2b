package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// For guests whose processors are emulated: fewer sockets, and a budget of as many times as everything takes longer there, so
// that the census has the same part in the whole.
var (
	agentSockets = flag.Int("sockets", 100_000, "`number` of connected sockets of BenchmarkAgentWeight")
	agentSlow    = flag.Float64("slow", 1, "how many `times` longer everything takes here, for the budget of BenchmarkAgentWeight")
)

// BenchmarkAgentWeight is what `midhop agent` weighs and costs on a machine with 100,000 connected sockets, all of them healthy,
// while it publishes to a hub: with the probes that this kernel offers, and with the census in place of those for unanswered
// probes.
func BenchmarkAgentWeight(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	const each = 16_000 // files that one process may have open, where nobody has raised the limit
	for left := *agentSockets; left > 0; left -= each {
		holdPairs(b, min(left, each)/2)
	}
	for _, rungs := range []string{"", "probe=census"} {
		b.Run("rungs="+rungs, func(b *testing.B) {
			for b.Loop() {
				w := weighAgent(b, rungs)
				b.ReportMetric(w.anon/1e6, "anon-MB")
				b.ReportMetric(w.maps/1e6, "maps-MB")
				b.ReportMetric((w.anon+w.maps)/1e6, "own-MB")
				b.ReportMetric(w.peak/1e6, "rss-peak-MB")
				b.ReportMetric(w.first.Seconds()*1e3, "cpu-ms-first-look")
				b.ReportMetric(w.idle*100, "%core-idle")
			}
		})
	}
}

// weighAgent runs a hub and an agent until the agent's first look is complete and told, and then for a while.
func weighAgent(b *testing.B, rungs string) (w weight) {
	b.Helper()
	dir := b.TempDir()
	const hubAt, agentAt = "127.0.0.1:47322", "127.0.0.1:47323"
	file := filesIn(b, dir)
	start := func(env string, argv ...string) int {
		cmd := exec.Command(binary, argv...)
		cmd.Env, cmd.Stderr = append(os.Environ(), env), os.Stderr
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	start("", "hub", "--listen", hubAt, "--dir", filepath.Join(dir, "streams"), "--tokens", file("tokens", "agent this secret\n"), "--metrics", "")
	argv := []string{"agent", "--node", "this", "--hub", "nats://" + hubAt, "--hub-token", file("token", "secret"), "--metrics", agentAt}
	if *agentSlow != 1 {
		budget := agentBudget
		if rungs == "" {
			budget = agentBudgetProbe // the kernels of guests have the probe
		}
		argv = append(argv, "--census-budget", fmt.Sprint(budget**agentSlow))
	}
	pid := start("MIDHOP_RUNGS="+rungs, argv...)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("no first look")
		}
		resp, err := http.Get("http://" + agentAt + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			break
		}
	}
	w.first = cpuOf(b, pid)
	// Whoever asks before there is anybody to answer is refused, and a refusal is a first sign of trouble: for half a minute the
	// census is made each second. A healthy minute comes after it.
	<-time.After(35 * time.Second)
	w.rest(b, pid, 8*idleSpan) // of a look at all sockets a minute is too short to see a share
	return w
}
