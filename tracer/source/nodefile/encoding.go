package nodefile

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd file can ask for; what its program writes by default has 8 MiB at most.
const maxWindow = 32 << 20

// plain returns the text of a file in UTF-8, whichever way it is packed: the signature tells, not the name.
func plain(r io.Reader) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	start, err := in.Peek(6)
	if err != nil && err != io.EOF && len(start) == 0 {
		return nil, err
	}
	has := func(magic ...byte) bool { return bytes.HasPrefix(start, magic) }
	switch {
	case has(0x1f, 0x8b):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("begins like gzip: %w", err)
		}
		return plain(packed{z})
	case has(0x28, 0xb5, 0x2f, 0xfd):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("begins like zstd: %w", err)
		}
		return plain(packed{z})
	case has('B', 'Z', 'h') && len(start) > 4 && start[4] == '1':
		return plain(packed{bzip2.NewReader(in)})
	case has(0xfd, '7', 'z', 'X', 'Z', 0):
		return nil, remedied{errors.New("is compressed by xz, which is not read here"), "xz -dc FILE | midhop ... --nodes -"}
	case has('P', 'K', 3, 4):
		return nil, remedied{errors.New("is a zip archive"), "unzip -p FILE | midhop ... --nodes -"}
	case has(0xef, 0xbb, 0xbf):
		_, _ = in.Discard(3)
		return in, nil
	case has(0xff, 0xfe), has(0xfe, 0xff):
		_, _ = in.Discard(2)
		return bufio.NewReader(&wide{in: in, big: has(0xfe, 0xff)}), nil
	case len(start) >= 2 && (start[0] == 0) != (start[1] == 0): // half of ASCII's bytes are zero
		return bufio.NewReader(&wide{in: in, big: start[0] == 0}), nil
	}
	return in, nil
}

// packed says of an error in what it unpacks that it is one: the file is damaged or cut, not its text.
type packed struct{ r io.Reader }

func (p packed) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		err = &unpackError{err}
	}
	return n, err
}

type unpackError struct{ err error }

func (e *unpackError) Error() string {
	if errors.Is(e.err, io.ErrUnexpectedEOF) {
		return "the compressed file ends too early: it is cut off"
	}
	return "cannot be decompressed: " + e.err.Error()
}

func (e *unpackError) Unwrap() error { return e.err }

// wide turns UTF-16, as PowerShell's > writes it, into UTF-8.
type wide struct {
	in   *bufio.Reader
	big  bool
	out  []byte
	half rune // the first half of a pair, 0: none
}

func (w *wide) Read(b []byte) (int, error) {
	for len(w.out) == 0 {
		var unit [2]byte
		if _, err := io.ReadFull(w.in, unit[:]); err != nil {
			return 0, io.EOF // half a character at the end is none
		}
		r := rune(unit[0]) | rune(unit[1])<<8
		if w.big {
			r = rune(unit[1]) | rune(unit[0])<<8
		}
		switch {
		case w.half != 0:
			r, w.half = utf16.DecodeRune(w.half, r), 0
		case r >= 0xd800 && r < 0xdc00:
			w.half = r
			continue
		}
		w.out = utf8.AppendRune(w.out[:0], r)
	}
	n := 0
	for n < len(b) && len(w.out) > 0 {
		c := copy(b[n:], w.out)
		n += c
		w.out = w.out[c:]
		if w.in.Buffered() < 2 || n+utf8.UTFMax > len(b) || len(w.out) > 0 {
			break
		}
		var unit [2]byte
		_, _ = io.ReadFull(w.in, unit[:])
		r := rune(unit[0]) | rune(unit[1])<<8
		if w.big {
			r = rune(unit[1]) | rune(unit[0])<<8
		}
		if w.half != 0 {
			r, w.half = utf16.DecodeRune(w.half, r), 0
		} else if r >= 0xd800 && r < 0xdc00 {
			w.half = r
			break
		}
		w.out = utf8.AppendRune(w.out[:0], r)
	}
	return n, nil
}
