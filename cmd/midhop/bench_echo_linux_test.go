package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The echo load: so many connections that each await the answer to one small message before they send the next.
const (
	echoConnections = 32
	echoBytes       = 128
	echoSpan        = 3 * time.Second
	echoRounds      = 5 // of each kind, in turns
)

// BenchmarkEcho is what applications notice of midhop: throughput and the 99th percentile of the latency of an echo load
// without midhop and with it, in turns. The medians of the rounds count.
func BenchmarkEcho(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for b.Loop() {
		var without, with []echoed
		echo(b) // warms up
		for range echoRounds {
			without = append(without, echo(b))
			stop := whileWatched(b)
			with = append(with, echo(b))
			stop()
		}
		rate := func(e []echoed) float64 { return middle(e, func(e echoed) float64 { return e.Rate }) }
		late := func(e []echoed) float64 { return middle(e, func(e echoed) float64 { return e.P99 }) }
		cost := func(e []echoed) float64 { return middle(e, func(e echoed) float64 { return e.CPU }) }
		b.ReportMetric(rate(without), "echoes/s-without")
		b.ReportMetric(rate(with), "echoes/s-with")
		b.ReportMetric(rate(with)/rate(without), "ratio-throughput")
		b.ReportMetric(late(without), "us-p99-without")
		b.ReportMetric(late(with), "us-p99-with")
		b.ReportMetric(cost(without), "cpu-us/echo-without")
		b.ReportMetric(cost(with), "cpu-us/echo-with")
		b.ReportMetric(cost(with)/cost(without), "ratio-cpu")
	}
}

// whileWatched starts midhop and awaits its first look; stop ends it.
func whileWatched(b *testing.B) (stop func()) {
	b.Helper()
	cmd := exec.Command(binary, "watch", "-o", "jsonl", "--complete")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	in := bufio.NewScanner(out)
	for in.Scan() && !strings.Contains(in.Text(), `"stream.synced"`) {
	}
	go func() {
		for in.Scan() {
		}
	}()
	return func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }
}

// echoed is what one round came to.
type echoed struct {
	Rate float64 // echoes a second
	P99  float64 // microseconds
	CPU  float64 // microseconds of processor time for each, both ends
}

func middle(of []echoed, field func(echoed) float64) float64 {
	values := make([]float64, len(of))
	for i := range of {
		values[i] = field(of[i])
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func median(of []time.Duration) time.Duration {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}

func least(of []time.Duration) time.Duration { return slices.Min(of) }

// echoVariable is set in the process that TestEchoLoad is.
const echoVariable = "MIDHOP_TEST_ECHO"

// echo runs one round in a process with a network namespace of its own.
func echo(b *testing.B) echoed {
	b.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestEchoLoad$")
	cmd.Env = append(os.Environ(), partVariable+"=echo", echoVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("the echo load: %v\n%s", err, out)
	}
	var e echoed
	if err := json.NewDecoder(strings.NewReader(string(out))).Decode(&e); err != nil {
		b.Fatalf("the echo load: %v: %s", err, out)
	}
	return e
}

// TestEchoLoad is no test but that process.
func TestEchoLoad(t *testing.T) {
	if os.Getenv(echoVariable) == "" {
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var wg sync.WaitGroup
	at := unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 7777}
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(ln, &at), unix.Listen(ln, echoConnections)); err != nil {
		t.Fatal(err)
	}
	var u unix.Rusage
	for range echoConnections {
		near, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Connect(near, &at); err != nil {
			t.Fatal(err)
		}
		far, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range []int{near, far} {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
				t.Fatal(err)
			}
		}
		wg.Go(func() { // the server: until the client shuts its end
			buf := make([]byte, echoBytes)
			for {
				n, err := unix.Read(far, buf)
				if n <= 0 || err != nil {
					return
				}
				if _, err := unix.Write(far, buf[:n]); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			defer unix.Shutdown(near, unix.SHUT_RDWR)
			mine := make([]time.Duration, 0, 1<<16)
			buf := make([]byte, echoBytes)
			for began := time.Now(); time.Since(began) < echoSpan; {
				sent := time.Now()
				_, err := unix.Write(near, buf)
				for n := 0; err == nil && n < echoBytes; {
					var got int
					if got, err = unix.Read(near, buf[n:]); got == 0 && err == nil {
						err = unix.ECONNRESET
					}
					n += got
				}
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				mine = append(mine, time.Since(sent))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	n := float64(len(took))
	_ = json.NewEncoder(os.Stdout).Encode(echoed{
		Rate: n / echoSpan.Seconds(),
		P99:  took[len(took)*99/100].Seconds() * 1e6,
		CPU:  float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3 / n,
	})
}
