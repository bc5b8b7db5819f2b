package lab

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

func TestMobileClients(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "mobile-clients")
	networks := map[netip.Prefix]bool{}
	for _, a := range c.plan.External.Addrs {
		p, err := a.Prefix(24)
		if err != nil {
			t.Fatal(err)
		}
		networks[p] = true
	}
	if len(networks) != len(c.plan.External.Addrs) {
		t.Errorf("%d clients in %d networks", len(c.plan.External.Addrs), len(networks))
	}
	eventually(t, "three clients have come back as others", func() bool {
		clients, err := c.ClientTally()
		if err != nil {
			t.Fatal(err)
		}
		gone := 0
		for _, n := range clients.Ended {
			gone += n
		}
		return clients.Open == c.opts.Connections && gone >= 3
	})
	service, err := c.ServiceTally()
	if err != nil {
		t.Fatal(err)
	}
	for cause, n := range service.Ended {
		if cause != goodbye {
			t.Errorf("the service heard of %d ends: %s", n, cause)
		}
	}
	if n := resets(t, c); n > 0 {
		t.Errorf("%d connections were reset: somebody said a word", n)
	}
}

// nodeStory listens to what the API says of a node until it says that it was removed. It returns when the API has said what
// there is; the function that it returns waits for the rest.
func nodeStory(t *testing.T, c *Cluster, node string) (whole func() []string) {
	t.Helper()
	var story []string
	begun, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	begin := sync.OnceFunc(func() { close(begun) })
	go func() {
		ended <- c.API().Run(ctx, func(batch []event.Event) {
			for _, e := range batch {
				f, ok := e.Body.(*event.NodeFact)
				if !ok || f.Node.Name != node {
					continue
				}
				story = append(story, f.What+" "+f.Node.Ready)
				if f.What == "changed" && len(f.Node.Taints) == 0 {
					t.Errorf("the API says %+v", f.Node)
				}
				if f.What == "removed" {
					cancel()
				}
			}
			begin()
		})
	}()
	<-begun
	return func() []string {
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return story
	}
}

func TestDrain(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := testOptions(t)
	o.Scenario, o.drainFor = "drain", time.Second
	c := start(t, o)
	victim := c.plan.Nodes[c.plan.Victim]
	before, story := podSockets(t, c), nodeStory(t, c, victim.Name)
	if _, err := c.Fault(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(before[victim.Addr]) < 10 {
		t.Fatalf("%d sockets cross the victim", len(before[victim.Addr]))
	}
	want := []string{"added true", "changed true", "changed false", "removed false"}
	if got := story(); !slices.Equal(got, want) {
		t.Errorf("the API says %q, want %q", got, want)
	}
	if c.node(c.plan.Victim) != nil {
		t.Error("the victim is on")
	}
	if left := podSockets(t, c)[victim.Addr]; len(left) > 0 {
		t.Errorf("%d sockets still cross the victim", len(left))
	}
	everybodyIsWell(t, c)
}

// everybodyIsWell waits until all long-lived connections stand again and checks that none was lost, only ended.
func everybodyIsWell(t *testing.T, c *Cluster) {
	t.Helper()
	var got Tally
	eventually(t, "everybody is connected again", func() (ok bool) {
		var err error
		if got, err = c.ClientTally(); err != nil {
			t.Fatal(err)
		}
		return got.Open == c.opts.Connections
	})
	service, err := c.ServiceTally()
	if err != nil {
		t.Fatal(err)
	}
	for _, ended := range []map[string]int{got.Ended, service.Ended} {
		for cause, n := range ended {
			if cause != goodbye {
				t.Errorf("%d connections ended with %q", n, cause)
			}
		}
	}
	if got.Missing > 0 {
		t.Errorf("%d clients gave up", got.Missing)
	}
	for k, n := range got.New {
		if n.Failed > 0 {
			t.Errorf("%d of %d new connections by %s failed", n.Failed, n.Failed+n.Made, c.plan.Nodes[k].Name)
		}
	}
}

func TestRolling(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "rolling", func(o *Options) { o.drainFor = time.Second })
	first := map[string]string{}
	for k, n := range c.plan.Nodes {
		first[n.Name] = bootOf(c, k)
	}
	select {
	case <-c.Settled():
	case <-time.After(patience):
		t.Fatal("the first round does not end")
	}
	for k, n := range c.plan.Nodes {
		if bootOf(c, k) == first[n.Name] {
			t.Errorf("%s was not restarted", n.Name)
		}
	}
	everybodyIsWell(t, c)
}

func bootOf(c *Cluster, k int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boots[k]
}
