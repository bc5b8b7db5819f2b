package kubecluster

import (
	"context"
	"testing"
	"time"
)

// TestControlPlane starts, stops and starts the API server alone.
func TestControlPlane(t *testing.T) {
	bin, _ := binaries(t)
	start := time.Now()
	p, err := Start(context.Background(), bin, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	t.Logf("ready after %s", time.Since(start).Round(time.Millisecond))
	p.Down()
	start = time.Now()
	if err := p.Up(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready again after %s", time.Since(start).Round(time.Millisecond))
}
