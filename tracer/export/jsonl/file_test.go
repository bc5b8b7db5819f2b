package jsonl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/midhop/midhop/tracer/event"
)

var start = time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)

// opening is the first line of a stream, and of each file of it.
func opening() event.Event {
	return event.Event{
		Type: event.StreamStarted, Time: start, Source: "agent/n1", ID: event.ID{Origin: "agent/n1-b", N: 1},
		Body: &event.Started{Midhop: event.Build{Version: "test"}, Complete: true},
	}
}

func beat(n int) event.Event {
	return event.Event{
		Type: event.StreamHeartbeat, Time: start.Add(time.Duration(n) * time.Second), Source: "agent/n1",
		ID: event.ID{Origin: "agent/n1-b", N: uint64(n + 2)}, Body: &event.Heartbeat{Sockets: event.Known(n)},
	}
}

// recordAnew writes n lines, one a batch, and begins the stream anew as soon as a file is full.
func recordAnew(t *testing.T, path string, n int, opts FileOptions) *File {
	t.Helper()
	full := 0
	opts.Full = func() { full++ }
	f, err := CreateFile(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write([]event.Event{opening()}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := f.Write([]event.Event{beat(i)}); err != nil {
			t.Fatal(err)
		}
		if err := flushed(f); err != nil {
			t.Fatal(err)
		}
		if full == 0 {
			continue
		}
		if full > 1 {
			t.Fatal("a file was full twice")
		}
		full = 0
		if err := errors.Join(f.Next(), f.Write([]event.Event{opening(), beat(i)})); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

// flushed brings all lines to the file, so that its size is known to the test.
func flushed(f *File) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.lines.Flush(); err != nil {
		return err
	}
	f.disk.mu.Lock()
	err := f.disk.compressAny()
	f.disk.mu.Unlock()
	f.measure()
	return err
}

func (d *disk) compressAny() error {
	if d.encoder == nil {
		return nil
	}
	return d.compress()
}

func readRecording(t *testing.T, path string) []event.Event {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parseRecording(t, path, data)
}

func parseRecording(t *testing.T, path string, data []byte) []event.Event {
	t.Helper()
	var in io.Reader = bytes.NewReader(data)
	if filepath.Ext(path) == ".zst" {
		d, err := zstd.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		in = d
	}
	return decodeAll(t, in)
}

// TestEveryFileStandsAlone rotates by size: every file opens with the stream's beginning and numbers its lines from 1,
// names ascend with time, the newest keeps the name that was asked for, and no line is lost.
func TestEveryFileStandsAlone(t *testing.T) {
	for _, name := range []string{"rec.jsonl", "rec.jsonl.zst", "rec"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := recordAnew(t, filepath.Join(dir, name), 100, FileOptions{MaxSize: 3000})
			stem, ext := cutExtension(name)
			files := f.Stats().Files
			if files < 4 {
				t.Fatalf("%d files, want several", files)
			}
			beats := 0
			for i := range files {
				path := name
				if i < files-1 {
					path = fmt.Sprintf("%s.%d%s", stem, i+1, ext)
				}
				lines := readRecording(t, filepath.Join(dir, path))
				if lines[0].Type != event.StreamStarted {
					t.Errorf("%s opens with %s", path, lines[0].Type)
				}
				for j, e := range lines {
					if e.Seq != uint64(j+1) {
						t.Fatalf("%s: line %d has seq %d", path, j+1, e.Seq)
					}
					if b, ok := e.Body.(*event.Heartbeat); ok && b.Sockets.V == beats {
						beats++
					}
				}
			}
			if beats != 100 {
				t.Errorf("beats are in order up to %d, want 100", beats)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*~")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestOldFilesGo keeps the newest files only, never one of an earlier run, and goes on counting after those.
func TestOldFilesGo(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"rec.4.jsonl", "rec.x.jsonl", "other.9.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := recordAnew(t, filepath.Join(dir, "rec.jsonl"), 100, FileOptions{MaxSize: 3000, MaxFiles: 2})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	newest := fmt.Sprintf("rec.%d.jsonl", 4+f.Stats().Files-1)
	want := []string{"other.9.jsonl", "rec.4.jsonl", newest, "rec.jsonl", "rec.x.jsonl"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

// TestNoFileIsReplacedUnasked refuses to write over a recording.
func TestNoFileIsReplacedUnasked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rec.jsonl")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateFile(path, FileOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	f, err := CreateFile(path, FileOptions{Overwrite: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Write([]event.Event{opening()}), f.Close()); err != nil {
		t.Fatal(err)
	}
	if got := readRecording(t, path); len(got) != 1 {
		t.Errorf("%d lines, want 1", len(got))
	}
}

// TestAFullFileGoesOn lets nobody answer when the file is full: it is told once, loses nothing, and leaves nothing behind.
func TestAFullFileGoesOn(t *testing.T) {
	dir := t.TempDir()
	asked := 0
	f, err := CreateFile(filepath.Join(dir, "rec.jsonl"), FileOptions{MaxSize: 1000, Full: func() { asked++ }})
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Write([]event.Event{opening()})
	for i := range 500 {
		if err := errors.Join(f.Write([]event.Event{beat(i)}), flushed(f)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if asked != 1 {
		t.Errorf("told %d times", asked)
	}
	if got := f.Stats(); got.Files != 1 || got.Lines != 501 || got.Lost != 0 {
		t.Errorf("stats %+v", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestADeviceWithoutRoom writes to /dev/full: nothing hangs or fails on the way, every line is counted, and the end says so.
func TestADeviceWithoutRoom(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	troubles := 0
	f, err := CreateFile("/dev/full", FileOptions{Trouble: func(error) { troubles++ }})
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Write([]event.Event{opening()})
	for i := range 50 {
		if err := errors.Join(f.Write([]event.Event{beat(i)}), flushed(f)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); !errors.Is(err, ErrFull) {
		t.Errorf("Close gave %v, want %v", err, ErrFull)
	}
	if s := f.Stats(); s.Lost < 51 || s.Bytes != 0 {
		t.Errorf("stats %+v, want at least 51 lost and nothing written", s)
	}
	if troubles != 1 {
		t.Errorf("trouble was told %d times, want once", troubles)
	}
}

// TestAFileThatWasCutOffIsStillGood reads a compressed recording whose writer was killed: all finished frames are there.
func TestAFileThatWasCutOffIsStillGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rec.jsonl.zst")
	f, err := CreateFile(path, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Write([]event.Event{opening()})
	for i := range 10 {
		if err := errors.Join(f.Write([]event.Event{beat(i)}), flushed(f)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(bytes.NewReader(whole[:len(whole)-3]))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, _ := io.ReadAll(d)
	if n := bytes.Count(got, []byte{'\n'}); n != 10 {
		t.Errorf("%d lines can be read of 10 whole frames and a part", n)
	}
}
