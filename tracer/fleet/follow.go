package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// message is one stored message of a stream.
type message struct {
	seq     uint64
	subject string
	stored  time.Time // by the server's clock
	header  nats.Header
	data    []byte
}

// follower reads a stream in its order, by direct gets in batches (ADR-31 of NATS). It makes no consumer: there is nothing
// to leave behind, any replica may answer, and whoever may only read needs no right that could be turned into writing.
type follower struct {
	conn   *Conn
	stream string
	filter string // of subjects
	seq    uint64 // next to read; 0: by from
	from   time.Time
	asks   uint64
	sub    *nats.Subscription
	inbox  string

	stored time.Time          // of the newest message that was read
	moved  time.Time          // when that was, or when it was looked for before
	hasty  bool               // what there is is wanted now, and no more
	heard  time.Time          // of the last answer, or of the beginning
	read   bool               // there was an answer
	cut    *CutOffError       // see unanswered
	told   bool               // of it
	onCut  func(*CutOffError) // nil: nobody
}

const (
	followBatch = 512
	followBytes = 8 << 20
	followWait  = 3 * time.Second
	// followPoll is how often the end of a stream is asked for more.
	followPoll = 50 * time.Millisecond
)

// follow starts at a sequence number, or, where that is 0, at the first message that is stored at or after from.
func follow(c *Conn, stream, filter string, seq uint64, from time.Time) (*follower, error) {
	f := &follower{conn: c, stream: stream, filter: filter, seq: seq, from: from, inbox: c.nc.NewInbox(), heard: time.Now()}
	var err error
	if f.sub, err = c.nc.SubscribeSync(f.inbox + ".*"); err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	if err := f.sub.SetPendingLimits(-1, -1); err != nil { // a batch is bounded by what was asked for
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	return f, nil
}

func (f *follower) close() { _ = f.sub.Unsubscribe() }

type getRequest struct {
	Seq      uint64     `json:"seq,omitempty"`
	From     *time.Time `json:"start_time,omitempty"`
	Next     string     `json:"next_by_subj"`
	Batch    int        `json:"batch"`
	MaxBytes int        `json:"max_bytes"`
}

var errShort = errors.New("an answer of the stream is not whole")

// ask asks for the messages that follow and returns the subject of the answer.
func (f *follower) ask() (string, error) {
	req := getRequest{Seq: f.seq, Next: f.filter, Batch: followBatch, MaxBytes: followBytes}
	if f.seq == 0 {
		req.From = &f.from
	}
	return f.request(req)
}

func (f *follower) request(req getRequest) (string, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return "", err
	}
	f.asks++ // answers to an earlier question that come late are told apart
	reply := f.inbox + "." + strconv.FormatUint(f.asks, 10)
	if err := f.conn.nc.PublishRequest(directGet+f.stream, reply, body); err != nil {
		return "", fmt.Errorf("ask for %s: %w", f.stream, err)
	}
	return reply, nil
}

// next returns the messages that follow, none at the end of the stream. After an error the same messages may be asked for
// again.
func (f *follower) next(ctx context.Context) ([]message, error) {
	reply, err := f.ask()
	if err != nil {
		return nil, err
	}
	out, err := f.answer(ctx, reply)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return f.anew(ctx)
	}
	f.standAfter(out)
	return out, nil
}

// standAfter notes how far a stream was read.
func (f *follower) standAfter(batch []message) {
	last := &batch[len(batch)-1]
	f.seq, f.stored, f.moved = last.seq+1, last.stored, time.Now()
}

// anewEvery is how often a reader that stands at the end of a stream looks whether it is still the same one.
const anewEvery = time.Second

// anew looks, where nothing has come for a while, for messages that were stored later than the newest that was read: there are none
// but in a stream that was made anew, whose numbers begin again.
func (f *follower) anew(ctx context.Context) ([]message, error) {
	if f.stored.IsZero() || time.Since(f.moved) < anewEvery {
		return nil, nil
	}
	from := f.stored.Add(1)
	reply, err := f.request(getRequest{From: &from, Next: f.filter, Batch: followBatch, MaxBytes: followBytes})
	if err != nil {
		return nil, err
	}
	out, err := f.answer(ctx, reply)
	if err != nil {
		return nil, err
	}
	f.moved = time.Now()
	if len(out) == 0 || out[0].seq >= f.seq {
		return nil, nil // or what has come meanwhile, which is asked for next
	}
	f.conn.link.tell(slog.LevelWarn, "a stream was made anew: it is read from its beginning", f.stream)
	f.standAfter(out)
	return out, nil
}

// answer reads one batch.
func (f *follower) answer(ctx context.Context, reply string) ([]message, error) {
	ctx, cancel := context.WithTimeout(ctx, followWait)
	defer cancel()
	defer context.AfterFunc(f.conn.link.over, cancel)()
	var out []message
	for {
		m, err := f.sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.stream, err)
		}
		if m.Subject != reply {
			continue
		}
		before, _ := strconv.ParseUint(byServer(m.Header, natsLast), 10, 64)
		n := len(out)
		if whole := n == 0 && before == 0 || n > 0 && out[n-1].seq == before; !whole {
			return nil, errShort // something was dropped on the way here
		}
		text := byServer(m.Header, natsSequence)
		if text == "" { // no message of the stream: the server says how it stands
			switch status := m.Header.Get("Status"); status {
			case "404": // nothing follows
				return nil, nil
			case "204": // the end of the batch
				return out, nil
			default:
				return nil, fmt.Errorf("read %s: %s %s", f.stream, status, m.Header.Get("Description"))
			}
		}
		seq, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read %s: message %q: %w", f.stream, text, err)
		}
		stored, err := time.Parse(time.RFC3339Nano, byServer(m.Header, natsStored))
		if err != nil {
			return nil, fmt.Errorf("read %s: message %d: %w", f.stream, seq, err)
		}
		out = append(out, message{seq: seq, subject: byServer(m.Header, natsSubject), stored: stored, header: m.Header, data: m.Data})
	}
}

// Headers that the server adds to an answer.
const (
	natsSubject  = "Nats-Subject"
	natsSequence = "Nats-Sequence"
	natsStored   = "Nats-Time-Stamp"
	natsLast     = "Nats-Last-Sequence"
)

// serverHeaders are those that no message is stored with, unless it was an answer itself.
var serverHeaders = []string{natsSubject, natsSequence, natsStored, natsLast, "Nats-Stream", "Nats-Num-Pending"}

// byServer returns what the server says of a message. It adds its headers behind those of the publisher (genHeader in
// nats-server), who may have set the same: only the last is the server's.
func byServer(h nats.Header, key string) string {
	all := h.Values(key)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// all calls take for every message there is, and returns at the end of the stream.
func (f *follower) all(ctx context.Context, take func(*message) error) error {
	f.hasty = true
	for {
		batch, err := f.retry(ctx)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			return nil
		}
		for i := range batch {
			if err := take(&batch[i]); err != nil {
				return err
			}
		}
	}
}

// retry asks until there is an answer: a cluster that chooses a new leader, or a connection that comes back, takes a
// moment. It returns an error where ctx ends, and where a reader should not wait on.
func (f *follower) retry(ctx context.Context) ([]message, error) {
	for {
		batch, err := f.next(ctx)
		if err == nil {
			f.answered()
			return batch, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := f.unanswered(err); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.conn.link.over.Done():
		case <-time.After(retryEvery):
		}
	}
}
