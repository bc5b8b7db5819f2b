package fleet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a hub tells, in its own name and the API's, outweighs what any agent does: it removes nodes, and says that one was asked
// and kept silent. That a message stands under the hub's subject proves nothing, as a server may have put it there by mistake of
// its configuration. So hubs sign, with a key that no agent and no reader can read, and a message without a proof is none of theirs.

// The stream of the key has one message, which the first hub writes. Hubs of one cluster find it there, and so are peers.
const (
	streamKey  = "MIDHOP_KEY"
	subjectKey = "midhop.hub.key"
)

// headerProof is the signature, in base64. headerKey, in an answer of the clock, is the public key to check it by.
const (
	headerProof = "Midhop-Proof"
	headerKey   = "Midhop-Key"
)

// proofAge is how long before it was stored a message may have been signed: what is older is a repetition by somebody else, since
// hubs sign at every attempt anew. Clocks of hub and server may differ by as much.
const proofAge = 10 * time.Minute

// proven are the headers that a signature covers, beside the subject and what is told.
var proven = []string{jetstream.MsgIDHeader, headerOrigin, headerFirst, headerCount, headerDropped, headerSent, headerOffset, headerMark}

// sign signs a message as of now.
func sign(key ed25519.PrivateKey, m *nats.Msg) {
	m.Header.Set(headerSent, strconv.FormatInt(time.Now().UnixNano(), 10))
	m.Header.Set(headerProof, base64.RawStdEncoding.EncodeToString(ed25519.Sign(key, digest(m.Subject, m.Header, m.Data))))
}

// digest is what is signed. Each part is told with its length, so that none can be moved into another.
func digest(subject string, h nats.Header, data []byte) []byte {
	sum := sha512.New()
	part := func(b []byte) {
		fmt.Fprintf(sum, "%d ", len(b))
		sum.Write(b)
	}
	part([]byte("midhop hub 1"))
	part([]byte(subject))
	for _, name := range proven {
		part([]byte(h.Get(name)))
	}
	part(data)
	return sum.Sum(nil)
}

// proof tells messages of hubs from those of others.
type proof struct {
	key  ed25519.PublicKey
	seen map[string]time.Time // signatures of the last proofAge, and when each was stored
	next time.Time            // when the old ones of these go
}

func newProof(key ed25519.PublicKey) *proof {
	return &proof{key: key, seen: make(map[string]time.Time)}
}

// check returns why a message is not a hub's, nil where it is. It depends on this message and those before it alone.
func (p *proof) check(m *message) error {
	text := m.header.Get(headerProof)
	if text == "" {
		return errors.New("it is not signed")
	}
	mark, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || !ed25519.Verify(p.key, digest(m.subject, m.header, m.data), mark) {
		return errors.New("its signature is not the hub's")
	}
	sent, err := strconv.ParseInt(m.header.Get(headerSent), 10, 64)
	if err != nil {
		return errors.New("it does not say when it was signed")
	}
	if age := m.stored.Sub(time.Unix(0, sent)); age.Abs() > proofAge {
		return fmt.Errorf("it was stored %s after it was signed: somebody has repeated it, or the clocks of hub and server differ", age.Round(time.Second))
	}
	if _, again := p.seen[string(mark)]; again {
		return errors.New("somebody has repeated it")
	}
	p.seen[string(mark)] = m.stored
	if m.stored.After(p.next) {
		for mark, at := range p.seen {
			if m.stored.Sub(at) > 2*proofAge {
				delete(p.seen, mark)
			}
		}
		p.next = m.stored.Add(time.Minute)
	}
	return nil
}

// hubKey returns the key that hubs of these streams sign with, and makes it where there is none.
func hubKey(ctx context.Context, js jetstream.JetStream, replicas int) (ed25519.PrivateKey, error) {
	config := jetstream.StreamConfig{
		Name: streamKey, Subjects: []string{subjectKey}, Storage: jetstream.FileStorage, MaxMsgs: 1, Discard: jetstream.DiscardNew,
		DenyDelete: true, DenyPurge: true, Replicas: replicas, Description: "what midhop's hubs sign with: for hubs only",
	}
	if err := ensureStream(ctx, js, config); err != nil {
		return nil, fmt.Errorf("make the stream %s: %w", streamKey, err)
	}
	s, err := js.Stream(ctx, streamKey)
	if err != nil {
		return nil, fmt.Errorf("read the stream %s: %w", streamKey, err)
	}
	for {
		m, err := s.GetLastMsgForSubject(ctx, subjectKey)
		if err == nil {
			if len(m.Data) != ed25519.SeedSize {
				return nil, &BadKeyError{}
			}
			return ed25519.NewKeyFromSeed(m.Data), nil
		}
		if !errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, fmt.Errorf("read the stream %s: %w", streamKey, err)
		}
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed) // never fails
		var full *jetstream.APIError
		if _, err := js.Publish(ctx, subjectKey, seed); err != nil && !errors.As(err, &full) { // another hub was quicker
			return nil, fmt.Errorf("write the stream %s: %w", streamKey, err)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// BadKeyError says that the stream of the hubs' key holds none.
type BadKeyError struct{}

func (*BadKeyError) Error() string {
	return "the stream " + streamKey + " holds no key: it is damaged, or somebody else has written to it"
}

// Effect says what follows from it.
func (*BadKeyError) Effect() string {
	return "nothing that a hub tells could be told from what others tell in its name"
}

// Remedy says what helps.
func (*BadKeyError) Remedy() string {
	return "find out who may write there, then remove that stream, nats stream rm " + streamKey + " or its directory in --dir; the hub makes a new key, and takes what was signed by the old one for somebody else's"
}

// keyWait is how long a reader waits for the public key.
const keyWait = 2 * time.Second

// askKey asks a running hub for the public key, nil where none answers: what stands under the hub's subject is then believed as far
// as the server's accounts keep others from it.
func askKey(c *Conn) ed25519.PublicKey {
	m, err := c.nc.Request(subjectClock, nil, keyWait)
	if err != nil {
		return nil
	}
	key, err := base64.RawStdEncoding.DecodeString(m.Header.Get(headerKey))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil
	}
	return key
}
