package bpf

import (
	"bufio"
	"compress/gzip"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
)

// reading is what the clocks show after uptime seconds on a kernel of hz, off by late jiffies.
func reading(hz uint32, uptime float64, late int64) clocksReading {
	start := int64(uint32(-300 * int32(hz)))
	return clocksReading{
		Jiffies: uint64(start + int64(uptime*float64(hz)) - late),
		KTime:   uint64(uptime * 1e9),
	}
}

func TestHZFromBoot(t *testing.T) {
	for _, hz := range hzChoices {
		for _, uptime := range []float64{1, 30, 60, 250, 400, 3600, 86400, 400 * 86400} {
			for _, late := range []int64{-1, 0, 1, 5} {
				if got, ok := hzFromBoot(reading(hz, uptime, late)); !ok || got != hz {
					t.Errorf("%d HZ after %v s: %d (certain: %v)", hz, uptime, got, ok)
				}
			}
		}
		// all choices agree when jiffies pass zero: no answer is better than a wrong one
		if got, ok := hzFromBoot(reading(hz, 300, 0)); ok && got != hz {
			t.Errorf("%d HZ after 300 s: certain of %d", hz, got)
		}
	}
}

// Never certain of a wrong answer, whatever the uptime.
func TestHZNeverWrong(t *testing.T) {
	for _, hz := range hzChoices {
		for uptime := 0.2; uptime < 700; uptime += 0.37 {
			if got, ok := hzFromBoot(reading(hz, uptime, 0)); ok && got != hz {
				t.Fatalf("%d HZ after %v s: certain of %d", hz, uptime, got)
			}
		}
	}
}

func TestHZFromPair(t *testing.T) {
	for _, hz := range hzChoices {
		for _, off := range []int64{-1, 0, 1} {
			a := reading(hz, 300, 0)
			b := reading(hz, 300+45/float64(hz), off)
			if got, ok := hzFromPair(a, b); !ok || got != hz {
				t.Errorf("%d HZ, one jiffy off by %d: %d (%v)", hz, off, got, ok)
			}
			if _, ok := hzFromPair(a, reading(hz, 300+20/float64(hz), off)); ok {
				t.Errorf("%d HZ: certain after 20 jiffies", hz)
			}
		}
	}
}

// The kernel's own configuration agrees, where it can be read.
func TestKernelHZ(t *testing.T) {
	needRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil { // before Linux 5.11 no map fits otherwise
		t.Fatal(err)
	}
	hz, err := kernelHZ(btf.NewCache())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d jiffies a second", hz)
	f, err := os.Open("/proc/config.gz")
	if errors.Is(err, os.ErrNotExist) {
		return // hidden here; the clocks had to do, as they have to for users
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(z); lines.Scan(); {
		if want, ok := strings.CutPrefix(lines.Text(), "CONFIG_HZ="); ok && want != strconv.Itoa(int(hz)) {
			t.Errorf("%d jiffies a second, the kernel was built with %s", hz, want)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loading probes needs root")
	}
}
