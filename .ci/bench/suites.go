package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// results are figures by benchmark and unit, as `go test -bench` writes them.
type results map[string]map[string]float64

func (r results) set(name, unit string, v float64) {
	if r[name] == nil {
		r[name] = make(map[string]float64)
	}
	r[name][unit] = v
}

// suite is something that is run as a whole.
type suite struct {
	name string
	run  func(context.Context, results) error
}

// suites are in the order in which they run: what needs a quiet machine most comes first.
func suites(fast bool) []suite {
	weight := "sockets=(0|10000|100000|1000000)"
	steps := []int{10_000, 100_000, 1_000_000}
	if fast {
		weight, steps = "sockets=(0|10000|100000)$", steps[:2]
	}
	list := []suite{
		{"startup", bench("./cmd/midhop", "^BenchmarkStartup$", "1x")},
		{"echo", bench("./cmd/midhop", "^BenchmarkEcho$", "1x")},
		{"retransmit", bench("./bpf", "^BenchmarkRetransmit$", "1x")},
		{"beside-bpftrace", bench("./cmd/midhop", "^BenchmarkBesideBpftrace$", "1x")},
		{"census", bench("./bpf", "^BenchmarkCensus$", "7x")},
		{"conntrack", bench("./tracer/source/conntrack", "^BenchmarkDump$", "7x")},
		{"stream", bench("./cmd/midhop", "^BenchmarkStream$", "1000000x")},
		{"sustained", bench("./cmd/midhop", "^BenchmarkSustained$", "1x")},
		{"weight", bench("./cmd/midhop", "^BenchmarkWeight$/"+weight, "1x")},
	}
	for _, n := range steps {
		list = append(list, suite{fmt.Sprintf("fold-%d", n), func(ctx context.Context, r results) error {
			own := results{}
			if err := bench("./tracer", "^Benchmark(SocketSeen|EntrySeen|Collect)$", fmt.Sprintf("%dx", n))(ctx, own); err != nil {
				return err
			}
			for name, units := range own {
				for unit, v := range units {
					r.set(fmt.Sprintf("%s/%d", name, n), unit, v)
				}
			}
			return nil
		}})
	}
	list = append(list, suite{"time-to-name", timeToName})
	if !fast {
		list = append(list, suite{"blame", blame})
	}
	return list
}

// bench runs the benchmarks of one package.
func bench(pkg, which, times string) func(context.Context, results) error {
	return func(ctx context.Context, r results) error {
		out, err := output(ctx, "go", "test", pkg, "-run", "^$", "-bench", which, "-benchtime", times, "-timeout", "30m")
		if err != nil {
			return err
		}
		if n := parse(out, r); n == 0 {
			return fmt.Errorf("no benchmark of %s ran: %s", pkg, bytes.TrimSpace(out))
		}
		return nil
	}
}

// parse reads lines such as "BenchmarkX/sub-2  7  12.5 ms/look  3 sockets".
func parse(out []byte, r results) (n int) {
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i] // the number of processors
			}
		}
		if _, err := strconv.Atoi(f[1]); err != nil {
			continue
		}
		n++
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				r.set(name, f[i+1], v)
			}
		}
	}
	return n
}

// output runs a command and returns what it wrote; the error carries the end of it.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		text := append(out.Bytes(), stderr.Bytes()...)
		if len(text) > 2000 {
			text = text[len(text)-2000:]
		}
		return out.Bytes(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, text)
	}
	return out.Bytes(), nil
}

// timeToName lets the lab's node die, and reads off its stream how long the name took.
func timeToName(ctx context.Context, r results) error {
	const runs = 5
	var took []float64
	for i := range runs {
		out, err := output(ctx, "bin/midhop", "lab", "node-gone", "--connections", "200", "-o", "jsonl", "--seed", strconv.Itoa(990_000+i))
		if err != nil {
			return err
		}
		s, err := named(out)
		if err != nil {
			return fmt.Errorf("run %d: %w", i+1, err)
		}
		took = append(took, s)
	}
	slices.Sort(took)
	r.set("TimeToName", "s-median", took[len(took)/2])
	r.set("TimeToName", "s-worst", took[len(took)-1])
	r.set("TimeToName", "runs", runs)
	return nil
}

// named is the time from the lab's fault to the first incident, in seconds.
func named(stream []byte) (float64, error) {
	var fault time.Time
	for line := range bytes.Lines(stream) {
		var l struct {
			Type string    `json:"type"`
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return 0, err
		}
		switch {
		case l.Type == "lab.fault" && fault.IsZero():
			fault = l.Time
		case l.Type == "incident.opened" && !fault.IsZero():
			return l.Time.Sub(fault).Seconds(), nil
		}
	}
	return 0, errors.New("the stream has no incident after its fault")
}

// blame reads what an epoch of the likelihood engine costs at 5,000 nodes and 1,000,000 flows.
func blame(ctx context.Context, r results) error {
	out, err := output(ctx, "go", "test", "./tracer/diagnose", "-run", "^TestMatrixCost$", "-v", "-count", "1", "-timeout", "30m", "-matrix", "ci")
	full, incremental := 0.0, 0.0
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 6 && f[0] == "5000/1000000" { // the fault's name has several words
			a, errA := strconv.ParseFloat(f[len(f)-4], 64)
			b, errB := strconv.ParseFloat(f[len(f)-3], 64) // before the nanoseconds of a flow and the yardstick
			if errA == nil && errB == nil {
				full, incremental = max(full, a), max(incremental, b)
			}
		}
	}
	if full == 0 {
		if err == nil {
			err = fmt.Errorf("no epoch was measured: %s", out)
		}
		return err
	}
	r.set("Blame", "cpu-ms-full", full)
	r.set("Blame", "cpu-ms-incremental", incremental)
	return nil
}
