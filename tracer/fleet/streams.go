package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Limits say how much the streams keep. What is older, or more, goes; the oldest first.
type Limits struct {
	Age           time.Duration // of facts and ledgers, 2 h if zero
	Bytes         int64         // of facts, and again of ledgers, 4 GiB if zero
	IncidentAge   time.Duration // 7 days if zero
	IncidentBytes int64         // 256 MiB if zero
	Replicas      int           // 1 if zero; a cluster of three servers wants 3
}

// dedupe is how long a stream remembers message ids: longer than a hub takes to tell what another has told. Batches have none.
const dedupe = 2 * time.Minute

// orDefaults fills in what is not set.
func (l Limits) orDefaults() Limits {
	if l.Age <= 0 {
		l.Age = 2 * time.Hour
	}
	if l.Bytes <= 0 {
		l.Bytes = 4 << 30
	}
	if l.IncidentAge <= 0 {
		l.IncidentAge = 7 * 24 * time.Hour
	}
	if l.IncidentBytes <= 0 {
		l.IncidentBytes = 256 << 20
	}
	if l.Replicas <= 0 {
		l.Replicas = 1
	}
	return l
}

// ensureStreams makes the streams, or brings their limits up to date.
func ensureStreams(ctx context.Context, js jetstream.JetStream, l Limits) error {
	l = l.orDefaults()
	for _, s := range []struct {
		name, subjects string
		age            time.Duration
		bytes          int64
	}{
		{StreamFacts, allFacts, l.Age, l.Bytes},
		{StreamLedger, allLedger, l.Age, l.Bytes},
		{StreamIncidents, subjectIncidents, l.IncidentAge, l.IncidentBytes},
	} {
		err := ensureStream(ctx, js, jetstream.StreamConfig{
			Name: s.name, Subjects: []string{s.subjects}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
			Discard: jetstream.DiscardOld, MaxAge: s.age, MaxBytes: s.bytes, Duplicates: min(dedupe, s.age), AllowDirect: true,
			Replicas: l.Replicas,
		})
		if err != nil {
			return fmt.Errorf("make the stream %s: %w", s.name, err)
		}
	}
	return nil
}

// streamTry is how long one attempt to make a stream may take. A cluster that has not chosen its leader yet does not answer at
// all, and answers that are no more than late are followed by others.
const streamTry = 5 * time.Second

// ensureStream tries until ctx ends, except where the answer would be the same each time.
func ensureStream(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) error {
	for {
		try, cancel := context.WithTimeout(ctx, streamTry)
		_, err := js.CreateOrUpdateStream(try, c)
		cancel()
		var api *jetstream.APIError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &api) && api.Code < 500: // a mistake of ours, or a right that is missing
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryEvery):
		}
	}
}
