//go:build faults

package conntrack

import (
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// TestMillionEntries: a million translated connections in four network namespaces, each with a ledger of its own, as four
// midhops would have them. Every one is told, and they take no more than 160 bytes each.
func TestMillionEntries(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	const spaces, each = 4, 250_000
	var sources []*Source
	before := heapInUse()
	for range spaces {
		done := make(chan error, 1)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine; the sockets keep their namespace
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				done <- err
				return
			}
			fill(t, each)
			s, err := Open(Options{Node: "node-a"})
			if err != nil {
				done <- err
				return
			}
			sources = append(sources, s)
			told := 0
			s.emit = func(batch []event.Event) { told += len(batch) }
			began := time.Now()
			err = s.dump()
			if told != each {
				t.Errorf("%d entries told of %d", told, each)
			}
			t.Logf("%d entries dumped in %s", told, time.Since(began))
			done <- err
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	took := heapInUse() - before
	t.Logf("%d bytes an entry", took/(spaces*each))
	if took > 160*spaces*each {
		t.Errorf("%d bytes an entry, want at most 160", took/(spaces*each))
	}
	for _, s := range sources {
		s.Close()
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
