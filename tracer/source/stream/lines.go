package stream

import (
	"bytes"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// splitter cuts what reads bring into lines and decodes them.
type splitter struct {
	rest   []byte // of a line whose end was not read yet
	skip   bool   // the line is too long: its rest is thrown away
	number int    // of the last line that ended
	lost   losses
}

func (s *splitter) split(data []byte, p *piece) {
	for {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			s.keep(data)
			return
		}
		s.number++
		line := data[:end]
		data = data[end+1:]
		if len(s.rest) > 0 {
			s.keep(line)
			line = s.rest
		}
		s.line(line, p)
		s.rest, s.skip = s.rest[:0], false
	}
}

// keep holds the start of a line back, unless it has become too long.
func (s *splitter) keep(data []byte) {
	if len(s.rest)+len(data) >= event.MaxLine {
		s.skip = true
	}
	if s.skip {
		data = data[:min(len(data), 1)] // one byte says that there is a line
	}
	if !s.skip || len(s.rest) == 0 {
		s.rest = append(s.rest, data...)
	}
}

func (s *splitter) line(line []byte, p *piece) {
	if s.skip || len(line) >= event.MaxLine {
		s.refuse(ErrTooLong, p)
		return
	}
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	e, err := event.Decode(line)
	if err != nil {
		s.refuse(err, p)
		return
	}
	p.events = append(p.events, e)
	if lost := s.lost.due(e.Time); lost != nil {
		p.events = append(p.events, *lost)
	}
}

func (s *splitter) refuse(err error, p *piece) {
	p.bad = append(p.bad, &LineError{s.number, err})
	s.lost.add()
}

// finish decodes the last line where no newline ends it, and tells what is still to be told. A line that cannot be read
// and does not end in a brace was cut off, and so was one that a compressed input ends in.
func (s *splitter) finish(cutOff bool, p *piece) {
	if cutOff {
		s.number++
		s.refuse(ErrTruncated, p)
	} else if len(s.rest) > 0 {
		s.number++
		before := len(p.bad)
		s.line(s.rest, p)
		if len(p.bad) > before && !s.skip && !bytes.HasSuffix(bytes.TrimSpace(s.rest), []byte("}")) {
			p.bad[before].Err = ErrTruncated
		}
	}
	s.rest = nil
	if lost := s.lost.rest(); lost != nil {
		p.events = append(p.events, *lost)
	}
}

// losses turns lines that cannot be used into stream.lost facts: right after the next line that can, at most one per
// second of the stream's own time. Where they stand depends on the lines alone, so that a file gives the same facts
// however it is read.
type losses struct {
	count uint64
	since time.Time // the clock at the first of them; zero before any line could be read
	clock time.Time // of the newest line, which a clock that was set back leaves behind the largest
	told  time.Time
}

func (l *losses) add() {
	if l.count == 0 {
		l.since = l.clock
	}
	l.count++
}

// due takes the time of the line that was read, and returns what is to be told after it.
func (l *losses) due(t time.Time) *event.Event {
	l.clock = t
	if l.count == 0 || l.clock.Sub(l.told).Abs() < time.Second {
		return nil
	}
	return l.tell()
}

func (l *losses) tell() *event.Event {
	if l.since.IsZero() {
		l.since = l.clock
	}
	e := &event.Event{Type: event.StreamLost, Time: l.clock, Source: "stream",
		Body: &event.Lost{Stage: "stream", Count: l.count, Since: l.since}}
	l.count, l.told = 0, l.clock
	return e
}

// rest is what is still to be told at the end. A stream without any time has no moment for it.
func (l *losses) rest() *event.Event {
	if l.count == 0 || l.clock.IsZero() {
		return nil
	}
	return l.tell()
}
