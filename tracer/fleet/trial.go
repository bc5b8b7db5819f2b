package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// In a cluster of one's own its configuration decides what agents and readers may do. A hub tries it at its start, with their
// credentials: what must fail, and where it does not.

// trialNode is the node that a trial speaks for where there is no real agent's credential to try with.
const trialNode = "midhop-trial"

// trialSubject is where a trial has answers go that must go nowhere: a ledger of no node, which nobody reads.
var trialSubject = subjectLedger + token("")

// trialWait is how long what must not come is waited for.
const trialWait = time.Second

// Try connects as an agent or a reader and tries what must fail. It returns what did not. o says how to come in; its Node is an
// agent's, empty for a reader.
func Try(ctx context.Context, hub *Conn, o DialOptions) (open []string, err error) {
	id := Identity{Role: RoleReader, Name: "trial"}
	if o.Node != "" {
		id = Identity{Role: RoleAgent, Node: o.Node}
	}
	node := o.Node
	o.Node, o.Log = "", nil // the connection must stand now, and what it is refused is what is wanted
	c, err := Dial(o)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	js, err := jetstream.New(hub.nc)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, StreamLedger)
	if err != nil {
		return nil, fmt.Errorf("read the stream %s: %w", StreamLedger, err)
	}
	stored := func() (uint64, error) {
		m, err := stream.GetLastMsgForSubject(ctx, trialSubject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		return m.Sequence, nil
	}
	try := func(what string, m *nats.Msg) error {
		before, err := stored()
		if err != nil {
			return err
		}
		if err := c.nc.PublishMsg(m); err != nil {
			return err
		}
		if err := c.nc.FlushTimeout(dialTimeout); err != nil {
			return err
		}
		for until := time.Now().Add(trialWait); time.Now().Before(until); {
			after, err := stored()
			if err != nil {
				return err
			}
			if after != before {
				open = append(open, what)
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
		return nil
	}
	if err := try("it may write to a stream", &nats.Msg{Subject: trialSubject}); err != nil {
		return open, err
	}
	for _, subject := range id.asks() {
		if subject == subjectClock || node != "" && subject != subjectFacts+token(node) {
			continue
		}
		ask := nats.NewMsg(subject)
		ask.Reply = trialSubject
		if node != "" { // a batch of no events
			ask.Data = pack(nil)
			for name, text := range map[string]string{headerOrigin: "trial-" + newToken()[:16], headerFirst: "1", headerCount: "0", headerOffset: "0"} {
				ask.Header.Set(name, text)
			}
		}
		if err := try("an answer to it lands in a stream: its account is that of the streams", ask); err != nil {
			return open, err
		}
	}
	inbox := id.hears()
	inbox = inbox[:len(inbox)-1] + "trial"
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return open, err
	}
	if err := c.nc.PublishRequest("$JS.API.STREAM.INFO."+StreamFacts, inbox, nil); err != nil {
		return open, err
	}
	if m, err := sub.NextMsg(trialWait); err == nil && len(m.Data) > 0 {
		open = append(open, "it may ask JetStream's API about streams")
	}
	return open, nil
}

// Trials are how to come in as an agent and as a reader by the tokens of a callout, which are good for this process's trial only.
func (a *Callout) Trials(o DialOptions) []DialOptions {
	var out []DialOptions
	for _, id := range []Identity{{Role: RoleAgent, Node: trialNode}, {Role: RoleReader, Name: "trial"}} {
		secret := newToken()
		id.Until = time.Now().Add(time.Minute)
		a.trials.Store(secret, id)
		time.AfterFunc(time.Minute, func() { a.trials.Delete(secret) })
		o := o
		o.Creds, o.Node, o.Token = "", id.Node, func() (string, error) { return secret, nil }
		out = append(out, o)
	}
	return out
}
