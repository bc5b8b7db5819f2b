package fleet

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/midhop/midhop/tracer/event"
)

// maxBatch is the most bytes of lines in one message before they are compressed. NATS refuses payloads above 1 MiB, and
// zstd never makes anything much larger.
const maxBatch = 512 << 10

// maxMessage bounds what a message may expand to: a batch and the line that filled it.
const maxMessage = maxBatch + event.MaxLine

// encoders compress lines. They are borrowed for a moment: an agent has 50 MB for everything, and one of them holds 300 kB.
var encoders = sync.Pool{New: func() any {
	// One goroutine and a small window.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // these options are good, or no test passes
	}
	return enc
}}

// pack compresses lines.
func pack(lines []byte) []byte {
	enc := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(enc)
	return enc.EncodeAll(lines, nil)
}

// unpacker reads what packers wrote. It is not safe for concurrent use.
type unpacker struct {
	dec   *zstd.Decoder
	lines []byte
}

func newUnpacker() (*unpacker, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMessage), zstd.WithDecoderMaxWindow(1<<20))
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	return &unpacker{dec: dec}, nil
}

// unpack returns the events of a message. Lines that cannot be read are left out and counted in bad.
func (u *unpacker) unpack(data []byte) (events []event.Event, bad int, err error) {
	u.lines, err = u.dec.DecodeAll(data, u.lines[:0])
	if err != nil {
		return nil, 0, fmt.Errorf("expand a batch: %w", err)
	}
	events = make([]event.Event, 0, bytes.Count(u.lines, []byte{'\n'}))
	for line := range bytes.Lines(u.lines) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if len(line) >= event.MaxLine {
			bad++
			continue
		}
		e, err := event.Decode(line)
		if err != nil {
			bad++
			continue
		}
		events = append(events, e)
	}
	return events, bad, nil
}
