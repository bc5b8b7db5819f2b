package fleet

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// offset measures how far this machine's clock is from the hub's, as NTP does: the hub's reading is taken to be of the
// middle of the way there and back, and of several askings the quickest is believed.
type offset struct {
	nc    *nats.Conn
	value atomic.Int64
	known atomic.Bool
	again chan struct{} // one place: this machine's clock was set
}

const (
	clockAsks  = 5
	clockEvery = 30 * time.Second
	clockFirst = 200 * time.Millisecond // between tries until the first answer, and until the one after the clock was set
	clockWait  = time.Second
	// clockNear is the difference that is left alone: machines that keep time by NTP are nearer, and the judge allows
	// for as much.
	clockNear = 100 * time.Millisecond
)

// run measures until ctx ends.
func (o *offset) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	set := false // this clock, since the last measurement
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-o.again:
			set = true
		}
		switch {
		case o.measure(ctx):
			set = false
			timer.Reset(clockEvery)
		case o.known.Load() && !set:
			timer.Reset(clockEvery)
		default:
			timer.Reset(clockFirst)
		}
	}
}

func (o *offset) measure(ctx context.Context) bool {
	best, found := time.Duration(1<<62), false
	for range clockAsks {
		ctx, cancel := context.WithTimeout(ctx, clockWait)
		sent := time.Now()
		answer, err := o.nc.RequestWithContext(ctx, subjectClock, nil)
		took := time.Since(sent)
		cancel()
		if err != nil {
			return found
		}
		at, err := strconv.ParseInt(string(answer.Data), 10, 64)
		if err != nil || took >= best {
			continue
		}
		best, found = took, true
		o.value.Store(at - sent.Add(took/2).UnixNano())
	}
	if found {
		o.known.Store(true)
	}
	return found
}

// set takes note that somebody has set this machine's clock by a step: the difference is smaller by as much until it is measured
// again, which is at once.
func (o *offset) set(step time.Duration) {
	if o.known.Load() {
		o.value.Add(-int64(step))
	}
	select {
	case o.again <- struct{}{}:
	default:
	}
}

// correction is what to add to this machine's times.
func (o *offset) correction() time.Duration {
	v := time.Duration(o.value.Load())
	if v.Abs() < clockNear {
		return 0
	}
	return v
}

// header is the measured offset in nanoseconds, empty while it is not known.
func (o *offset) header() string {
	if !o.known.Load() {
		return ""
	}
	return strconv.FormatInt(o.value.Load(), 10)
}

// answerClock tells whoever asks the time of this hub, and by which key to know what hubs have told. Of several hubs the first answer counts. The answer goes by the hub's own
// connection, which may publish to everything, so it goes to inboxes only: to those that the server makes where the question comes
// out of another account, and, where a cluster of one's own has one account for all, to agents' and readers'.
func answerClock(nc *nats.Conn, key ed25519.PublicKey) (*nats.Subscription, error) {
	text := base64.RawStdEncoding.EncodeToString(key)
	return nc.Subscribe(subjectClock, func(m *nats.Msg) {
		if !strings.HasPrefix(m.Reply, inboxes) && !strings.HasPrefix(m.Reply, serverInboxes) {
			return
		}
		answer := nats.NewMsg(m.Reply)
		answer.Header.Set(headerKey, text)
		answer.Data = strconv.AppendInt(nil, time.Now().UnixNano(), 10)
		_ = m.RespondMsg(answer)
	})
}
