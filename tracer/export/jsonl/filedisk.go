package jsonl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/midhop/midhop/tracer/event"
)

const (
	// frameSize is how many bytes of lines become one zstd frame: a file that ends early loses no more, and larger
	// frames hardly compress better.
	frameSize = 256 << 10
	// roomPause is how long nothing is tried after a write found no room.
	roomPause = time.Second
)

// disk writes whole lines to one file, compressed or not. A write that finds no room leaves no part of a line behind: the
// file is cut back to where it was good, the lines are dropped and counted, and so is all that follows until the loss
// could be told.
type disk struct {
	file    *os.File
	path    string
	regular bool // can be cut back, renamed and synced
	trouble func(error)

	mu      sync.Mutex
	encoder *zstd.Encoder // nil: as it is
	pending []byte        // lines that wait for their frame
	oldest  time.Time     // of pending
	frame   []byte
	timer   *time.Timer
	good    int64
	clock   time.Time // of what is being written
	err     error     // of the timer's write

	dropped uint64 // not told yet
	since   time.Time
	total   uint64
	pause   time.Time // nothing is tried before
	telling bool
	claimed uint64 // what the line being told says
}

func createDisk(path string, overwrite bool) (*disk, error) {
	regular := true
	if info, err := os.Stat(path); err == nil {
		regular = info.Mode().IsRegular()
	}
	flags := os.O_WRONLY
	if regular {
		flags |= os.O_CREATE | os.O_EXCL
		if overwrite {
			flags = flags&^os.O_EXCL | os.O_TRUNC
		}
	}
	file, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, err
	}
	d := &disk{file: file, path: path, regular: regular}
	if strings.HasSuffix(strings.TrimSuffix(path, "~"), ".zst") {
		// One frame at a time, so that frames stand alone and no goroutines wait.
		d.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("writing zstd: %w", err)
		}
		d.timer = time.AfterFunc(time.Hour, d.ring)
		d.timer.Stop()
	}
	return d, nil
}

// at says of what time the next lines are.
func (d *disk) at(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clock = t
}

// Write takes whole lines. Lines that there is no room for are no error.
func (d *disk) Write(lines []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return 0, d.err
	}
	if d.dropped > 0 && !d.telling {
		d.drop(lines, d.clock)
		return len(lines), nil
	}
	var err error
	if d.encoder == nil {
		err = d.store(lines, lines, d.clock)
	} else {
		if len(d.pending) == 0 {
			d.oldest = d.clock
			d.timer.Reset(fileDelay)
		}
		d.pending = append(d.pending, lines...)
		if len(d.pending) >= frameSize || d.telling {
			err = d.compress()
		}
	}
	if err != nil {
		return 0, err
	}
	return len(lines), nil
}

// compress stores what is pending as one frame; d.mu is held.
func (d *disk) compress() error {
	if len(d.pending) == 0 {
		return nil
	}
	d.frame = d.encoder.EncodeAll(d.pending, d.frame[:0])
	err := d.store(d.frame, d.pending, d.oldest)
	d.pending = d.pending[:0]
	return err
}

// ring stores what has waited long enough.
func (d *disk) ring() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = d.compress()
	}
}

// store writes data, which holds lines from the time since on; d.mu is held.
func (d *disk) store(data, lines []byte, since time.Time) error {
	n, err := d.file.Write(data)
	if err == nil {
		d.good += int64(n)
		return nil
	}
	if !noRoom(err) {
		return err
	}
	if n > 0 {
		if !d.regular {
			return err // a part of a line has left and cannot be taken back
		}
		if err := d.cutBack(); err != nil {
			return err
		}
	}
	d.pause = time.Now().Add(roomPause)
	if d.dropped == 0 && !d.telling && d.trouble != nil {
		d.trouble(err)
	}
	d.drop(lines, since)
	return nil
}

func (d *disk) cutBack() error {
	if err := d.file.Truncate(d.good); err != nil {
		return err
	}
	_, err := d.file.Seek(d.good, io.SeekStart)
	return err
}

func (d *disk) drop(lines []byte, since time.Time) {
	n := uint64(bytes.Count(lines, []byte{'\n'}))
	if d.dropped == 0 && !d.telling {
		d.since = since
	}
	d.dropped += n
	d.total += n
}

// due says whether a loss is to be told, and not too early for another try.
func (d *disk) due(last bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dropped > 0 && (last || !time.Now().Before(d.pause))
}

// try lets the next line through, which is to say what it returns; tried ends that.
func (d *disk) try() *event.Lost {
	d.mu.Lock()
	defer d.mu.Unlock()
	lost := &event.Lost{Stage: "file", Count: d.dropped, Since: d.since}
	d.claimed, d.dropped, d.telling = d.dropped, 0, true
	return lost
}

func (d *disk) tried() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.telling = false
	if d.dropped == 0 {
		return
	}
	// There is still no room. The line that was to tell it is no loss.
	d.total -= d.dropped
	d.dropped = d.claimed
}

func (d *disk) size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.good
}

// lost counts all lines that there was no room for, left those that no stream.lost line counts.
func (d *disk) lost() uint64 { d.mu.Lock(); defer d.mu.Unlock(); return d.total }
func (d *disk) left() uint64 { d.mu.Lock(); defer d.mu.Unlock(); return d.dropped }

// close brings everything to the disk.
func (d *disk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.err
	if d.encoder != nil {
		d.timer.Stop()
		if err == nil {
			err = d.compress()
		}
		d.encoder.Close()
	}
	if d.regular {
		if syncErr := d.file.Sync(); err == nil && syncErr != nil && !noRoom(syncErr) {
			err = syncErr
		}
	}
	if closeErr := d.file.Close(); err == nil {
		err = closeErr
	}
	if err != nil && isClosed(err) && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// abandon removes a file that nothing was written to.
func (d *disk) abandon() {
	if d.encoder != nil {
		d.timer.Stop()
		d.encoder.Close()
	}
	d.file.Close()
	_ = os.Remove(d.path)
}
