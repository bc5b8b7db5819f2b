package jsonl

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// zstdMagic opens a zstd frame (RFC 8878, 3.1.1).
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

var (
	gzipMagic     = []byte{0x1f, 0x8b}       // RFC 1952, 2.3.1
	byteOrderMark = []byte{0xef, 0xbb, 0xbf} // which Windows' editors write
)

// maxWindow bounds the memory that a compressed file can ask for; [File] writes windows of 8 MiB at most.
const maxWindow = 32 << 20

// Plain returns the lines of a file as [File] writes it, or as somebody packed it since: what begins like a zstd frame or like gzip
// is decompressed, a byte order mark is left out, anything else is handed on. It reads the first bytes, and so waits for them. The Reader needs no closing.
func Plain(r io.Reader) (*bufio.Reader, error) {
	raw := bufio.NewReaderSize(r, 64<<10)
	start, _ := raw.Peek(len(zstdMagic))
	switch {
	case bytes.HasPrefix(start, gzipMagic):
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, fmt.Errorf("reading gzip: %w", err)
		}
		return bufio.NewReaderSize(z, 64<<10), nil
	case bytes.HasPrefix(start, byteOrderMark):
		_, _ = raw.Discard(len(byteOrderMark))
		return raw, nil
	case !bytes.Equal(start, zstdMagic):
		return raw, nil
	}
	// One worker has no goroutines, so that whoever still reads does not have to be waited for.
	d, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("reading zstd: %w", err)
	}
	return bufio.NewReaderSize(d, 64<<10), nil
}
