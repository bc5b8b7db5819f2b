package jsonl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// ErrFull is wrapped by the error of [File.Close] where lines are missing at the end of the file because there was no
// room for them.
var ErrFull = errors.New("no room for the recording")

// FileOptions says how a recording is kept. The zero value is one file without bound.
type FileOptions struct {
	// MaxSize is how many bytes a file may have before the next one is begun, after compression; 0 for no bound. A file
	// becomes longer by what is written until [File.Next] is called, and where telling the state takes more than half of
	// MaxSize.
	MaxSize int64
	// MaxFiles is how many files of this run are kept, the one being written included; the oldest go. 0 keeps all.
	MaxFiles int
	// Overwrite lets the recording replace a file that is already there.
	Overwrite bool
	// Full is called, from within Write, when a file has reached MaxSize and the next one has been made: whoever is called
	// sees to it that [File.Next] is, and that what is written then begins the stream anew. Until then, or where Full is
	// nil, the file goes on.
	Full func()
	// Trouble is told, once per episode, that lines are lost for lack of room, and why. Nil: nobody is told before the
	// stream.lost line.
	Trouble func(error)
	// Delay is how long a line may wait for company, a second if zero.
	Delay time.Duration
}

// fileDelay is how long lines wait in a recording: who reads along sees them a second late, and a machine that loses
// power costs the recording no more.
const fileDelay = time.Second

// File is a sink that writes a recording to FILE. When FILE has reached its greatest size it is renamed to
// FILE with a number before its extension (rec.jsonl becomes rec.1.jsonl, then rec.2.jsonl), and a new FILE is begun, so
// that FILE is always the newest and numbers ascend with time. Lines are numbered from 1 in each file. A name that ends in
// .zst is compressed.
//
// Where there is no room left on the device, lines are dropped whole and counted; when there is room again a
// stream.lost line says how many. File is safe for concurrent use.
type File struct {
	path string
	opts FileOptions

	mu    sync.Mutex
	lines *Writer
	disk  *disk
	fresh *disk     // the next file, once the current one is full
	head  int64     // how long the file was after its first batch: that much it takes to tell the state
	retry time.Time // no next file is tried for before
	next  int       // the number that the current file will get
	kept  []string  // finished files of this run, the oldest first
	done  FileStats
	clock time.Time // of the newest batch
}

// FileStats counts what a recording has written and lost.
type FileStats struct {
	Files int    // begun
	Lines uint64 // encoded
	Bytes int64  // written, after compression
	Lost  uint64 // of Lines, those that there was no room for
}

// CreateFile begins a recording. A file that exists is an error that wraps fs.ErrExist unless it may be overwritten, or is
// none to keep, such as a pipe; those are never renamed.
func CreateFile(path string, opts FileOptions) (*File, error) {
	if opts.Delay <= 0 {
		opts.Delay = fileDelay
	}
	if strings.HasSuffix(path, ".gz") {
		return nil, fmt.Errorf("%s: gzip is not written; name it %s.zst", path, strings.TrimSuffix(path, ".gz"))
	}
	d, err := createDisk(path, opts.Overwrite)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, opts: opts, next: firstNumber(path)}
	f.begin(d)
	return f, nil
}

func (f *File) begin(d *disk) {
	d.trouble = f.opts.Trouble
	f.disk = d
	f.lines = New(d, Options{Delay: f.opts.Delay})
	f.head = 0
	f.done.Files++
}

// Write implements the Engine's sink.
func (f *File) Write(batch []event.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	f.clock = batch[0].Time
	f.disk.at(f.clock)
	if err := f.tellLost(false); err != nil {
		return err
	}
	if err := f.lines.Write(batch); err != nil {
		return err
	}
	if f.head == 0 {
		f.head = f.disk.size()
	}
	f.measure()
	return nil
}

// measure makes the next file when the current one is full. One that cannot be made is tried for again after a while.
func (f *File) measure() {
	if f.opts.MaxSize <= 0 || f.opts.Full == nil || f.fresh != nil || !f.disk.regular {
		return
	}
	if f.disk.size() < max(f.opts.MaxSize, 2*f.head) || time.Now().Before(f.retry) {
		return
	}
	fresh, err := createDisk(f.path+"~", true)
	if err != nil {
		f.retry = time.Now().Add(roomPause)
		if f.opts.Trouble != nil {
			f.opts.Trouble(fmt.Errorf("the next file cannot be begun: %w", err))
		}
		return
	}
	f.fresh = fresh
	f.opts.Full()
}

// tellLost tries to say what was lost, now and then or at the end.
func (f *File) tellLost(last bool) error {
	if !f.disk.due(last) {
		return nil
	}
	// What the Writer still holds came before the room did, and is dropped with the rest.
	if err := f.lines.Flush(); err != nil {
		return err
	}
	lost := f.disk.try()
	err := f.lines.Write([]event.Event{{Type: event.StreamLost, Time: f.clock, Source: "file", Body: lost}})
	if err == nil {
		err = f.lines.Flush()
	}
	f.disk.tried()
	return err
}

// Next finishes the current file and begins the next, if [FileOptions].Full was called since the last. What is written
// from now on must begin the stream anew.
func (f *File) Next() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh := f.fresh
	if fresh == nil {
		return nil
	}
	f.fresh = nil
	if err := f.end(); err != nil {
		fresh.abandon()
		return err
	}
	old := numbered(f.path, f.next)
	if err := errors.Join(os.Rename(f.path, old), os.Rename(f.path+"~", f.path)); err != nil {
		fresh.abandon()
		return err
	}
	f.next++
	f.kept = append(f.kept, old)
	for f.opts.MaxFiles > 0 && len(f.kept) >= f.opts.MaxFiles {
		if err := os.Remove(f.kept[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f.kept = f.kept[1:]
	}
	f.begin(fresh)
	return nil
}

// end writes what is buffered, says what is lost, and closes the current file.
func (f *File) end() error {
	_ = f.lines.Flush() // Close returns its error
	told := f.tellLost(true)
	err := errors.Join(told, f.lines.Close())
	if closeErr := f.disk.close(); err == nil {
		err = closeErr
	}
	f.count(&f.done)
	if left := f.disk.left(); err == nil && left > 0 {
		err = fmt.Errorf("%w: %d lines are missing at the end of %s", ErrFull, left, f.path)
	}
	return err
}

func (f *File) count(s *FileStats) {
	s.Lines += f.lines.Lines()
	s.Bytes += f.disk.size()
	s.Lost += f.disk.lost()
}

// Close writes what is buffered, brings the file to the disk and closes it. The error wraps [ErrFull] where there was no
// room for the last lines.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lines == nil {
		return nil
	}
	if f.fresh != nil {
		f.fresh.abandon()
		f.fresh = nil
	}
	err := f.end()
	f.lines = nil
	return err
}

// Stats says what was written so far.
func (f *File) Stats() FileStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.done
	if f.lines != nil {
		f.count(&s)
	}
	return s
}

// numbered is a finished file's name.
func numbered(path string, n int) string {
	stem, ext := cutExtension(path)
	return stem + "." + strconv.Itoa(n) + ext
}

// cutExtension splits rec.jsonl.zst into rec and .jsonl.zst.
func cutExtension(path string) (stem, ext string) {
	dir, name := filepath.Split(path)
	name, zst := strings.CutSuffix(name, ".zst")
	if zst {
		ext = ".zst"
	}
	if inner := filepath.Ext(name); inner != "" && inner != name {
		name, ext = strings.TrimSuffix(name, inner), inner+ext
	}
	return dir + name, ext
}

// firstNumber is one more than the highest number of a file that an earlier run has left.
func firstNumber(path string) int {
	stem, ext := cutExtension(path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return 1
	}
	next := 1
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), filepath.Base(stem)+".")
		if !ok {
			continue
		}
		if middle, ok = strings.CutSuffix(middle, ext); !ok {
			continue
		}
		if n, err := strconv.Atoi(middle); err == nil && n >= next {
			next = n + 1
		}
	}
	return next
}
