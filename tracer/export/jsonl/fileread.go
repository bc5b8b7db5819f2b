package jsonl

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// zstdMagic opens a zstd frame (RFC 8878, 3.1.1).
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// maxWindow bounds the memory that a compressed file can ask for; [File] writes windows of 8 MiB at most.
const maxWindow = 32 << 20

// Plain returns the lines of a file as [File] writes it: what begins like a zstd frame is decompressed, anything else is
// handed on. It reads the first bytes, and so waits for them. The Reader needs no closing.
func Plain(r io.Reader) (*bufio.Reader, error) {
	raw := bufio.NewReaderSize(r, 64<<10)
	if start, _ := raw.Peek(len(zstdMagic)); !bytes.Equal(start, zstdMagic) {
		return raw, nil
	}
	// One worker has no goroutines, so that whoever still reads does not have to be waited for.
	d, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("reading zstd: %w", err)
	}
	return bufio.NewReaderSize(d, 64<<10), nil
}
