package jsonl

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// onTinyDisk runs f on a thread of its own with a tmpfs of 64 KiB that nobody else sees.
func onTinyDisk(t *testing.T, f func(dir string) error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the mount with it
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k")
		}
		if err == nil {
			err = f(dir)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestRoomComesBack fills a disk, gives room again, and looks at what is left: whole lines, a stream.lost line that counts
// exactly the missing ones, and the lines after it.
func TestRoomComesBack(t *testing.T) {
	for _, name := range []string{"rec.jsonl", "rec.jsonl.zst"} {
		t.Run(name, func(t *testing.T) {
			var (
				f    *File
				data []byte
				i    int
			)
			onTinyDisk(t, func(dir string) (err error) {
				ballast := filepath.Join(dir, "ballast")
				if err := os.WriteFile(ballast, make([]byte, 60<<10), 0o600); err != nil {
					return err
				}
				path := filepath.Join(dir, name)
				if f, err = CreateFile(path, FileOptions{}); err != nil {
					return err
				}
				if err := f.Write([]event.Event{opening()}); err != nil {
					return err
				}
				for ; f.Stats().Lost == 0; i++ {
					if err := errors.Join(f.Write([]event.Event{beat(i)}), flushed(f)); err != nil {
						return err
					}
				}
				for end := i + 20; i < end; i++ {
					if err := f.Write([]event.Event{beat(i)}); err != nil {
						return err
					}
				}
				if err := os.Remove(ballast); err != nil {
					return err
				}
				f.disk.mu.Lock()
				f.disk.pause = time.Time{} // as if a second had passed
				f.disk.mu.Unlock()
				for end := i + 5; i < end; i++ {
					if err := f.Write([]event.Event{beat(i)}); err != nil {
						return err
					}
				}
				if err := f.Close(); err != nil {
					return err
				}
				data, err = os.ReadFile(path)
				return err
			})
			lines := parseRecording(t, name, data)
			var told, missing uint64
			last := uint64(0)
			for _, e := range lines {
				missing += e.Seq - last - 1
				last = e.Seq
				if lost, ok := e.Body.(*event.Lost); ok {
					told += lost.Count
					if lost.Stage != "file" || lost.Since.Before(start) || lost.Since.After(e.Time) {
						t.Errorf("stream.lost says %+v at %s", lost, e.Time)
					}
				}
			}
			if told == 0 || told != missing || told != f.Stats().Lost {
				t.Errorf("%d lines told lost, %d missing, %d counted", told, missing, f.Stats().Lost)
			}
			if lines[len(lines)-1].ID != beat(i-1).ID {
				t.Errorf("the last line is %v, want %v", lines[len(lines)-1].ID, beat(i-1).ID)
			}
			if strings.HasSuffix(name, ".jsonl") && !strings.HasSuffix(string(data), "}\n") {
				t.Error("the file ends within a line")
			}
		})
	}
}
