package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/midhop/midhop/tracer/fleet"
)

// natsCluster are real nats-servers on loopback, of the module version that the hub embeds.
type natsCluster struct {
	t       *testing.T
	servers []*exec.Cmd
	urls    []string
	names   []string
	killed  int // -1: none
	dirs    []string
}

// buildNATS builds nats-server from the module that go.mod names.
func buildNATS(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats-server")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	return path
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// startNATS starts a cluster and waits until its streams have a leader to be made by.
func startNATS(t *testing.T, dir string, n int) *natsCluster {
	t.Helper()
	program := buildNATS(t)
	c := &natsCluster{t: t, killed: -1}
	ports := freePorts(t, 2*n)
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("nats-route://127.0.0.1:%d", ports[n+i]))
	}
	for i := range n {
		store := filepath.Join(dir, fmt.Sprintf("nats-%d", i))
		config := filepath.Join(dir, fmt.Sprintf("nats-%d.conf", i))
		text := fmt.Sprintf("server_name: s%d\nlisten: 127.0.0.1:%d\njetstream { store_dir: %q }\ncluster { name: c, listen: 127.0.0.1:%d, routes: [%s] }\n",
			i, ports[i], store, ports[n+i], strings.Join(routes, ", "))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "-c", config, "-l", filepath.Join(dir, fmt.Sprintf("nats-%d.log", i)))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		c.servers, c.dirs, c.names = append(c.servers, cmd), append(c.dirs, store), append(c.names, fmt.Sprintf("s%d", i))
		c.urls = append(c.urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	c.await(n)
	return c
}

// await waits until the servers have chosen a leader for their streams, who knows all of them.
func (c *natsCluster) await(n int) {
	c.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatal("the nats-servers do not come to a cluster")
		}
		nc, err := nats.Connect(c.urls[0], nats.Timeout(time.Second))
		if err != nil {
			continue
		}
		js, err := jetstream.New(nc)
		if err != nil {
			c.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "READY", Subjects: []string{"ready"}, Replicas: n})
		cancel()
		nc.Close()
		if err == nil || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return
		}
	}
}

func (c *natsCluster) url() string { return strings.Join(c.urls, ",") }

// leader asks the cluster which server leads the stream of facts.
func (c *natsCluster) leader() string {
	nc, err := nats.Connect(c.url())
	if err != nil {
		c.t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+fleet.StreamFacts, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	var info struct{ Cluster struct{ Leader string } }
	if err := json.Unmarshal(m.Data, &info); err != nil {
		c.t.Fatal(err)
	}
	return info.Cluster.Leader
}

// killLeader kills the server that leads the stream of facts: the dearest one.
func (c *natsCluster) killLeader() {
	lead := c.leader()
	for i, name := range c.names {
		if name == lead {
			c.t.Logf("server %s, which leads the stream of facts, is killed", name)
			c.killed = i
			_ = c.servers[i].Process.Kill()
			return
		}
	}
	c.t.Errorf("the stream of facts has no leader: %q", lead)
}

// usage tells what the servers that live took.
func (c *natsCluster) usage(took float64) string {
	var b strings.Builder
	for i, s := range c.servers {
		if i == c.killed {
			continue
		}
		cpu, rss := usageOf(s.Process.Pid)
		fmt.Fprintf(&b, "server %s: %.2f cores, %d MB at most, %d MB on disk; ", c.names[i], cpu/took, rss>>20, dirSize(c.dirs[i])>>20)
	}
	return strings.TrimSuffix(b.String(), "; ")
}
