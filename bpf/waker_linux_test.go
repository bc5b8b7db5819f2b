package bpf

import (
	"context"
	"testing"
	"time"
)

// The first record after a silence wakes a reader that would not look by itself for an hour.
func TestFirstRecordWakesTheReader(t *testing.T) {
	probes, _ := mustLoad(t, Options{NoNAT: true})
	defer probes.Close()
	ring := probes.Evidence()
	ring.idle = time.Hour
	test := selfTest{probes: probes, told: map[Kind]bool{}, ports: map[uint16]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	peers := make(chan uint16, 1<<10)
	ended := make(chan error, 1)
	go func() {
		ended <- ring.Run(ctx, func(raw []byte) {
			var r TCPRecord
			if Decode(raw, &r) == nil && r.Header.Kind == KindResetReceived {
				peers <- r.Sock.PeerPort
			}
		}, func() {})
	}()
	for round := range 3 {
		// Silence is time in which nothing happens: the reader has to believe in it, and the probes too.
		<-time.After(awake + 20*evidenceTick)
		test.resetOne(t)
		late := time.After(30 * time.Second)
		for told := false; !told; {
			select {
			case port := <-peers:
				told = test.ports[port]
			case <-late:
				t.Fatalf("round %d: the reader sleeps", round)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
