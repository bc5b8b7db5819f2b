package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
)

// TestWhichNode finds the machine that runs the test, by the addresses that it has.
func TestWhichNode(t *testing.T) {
	own := fleet.OwnAddresses()
	node := func(name string, ips ...netip.Addr) event.Node {
		n := event.Node{Name: name}
		for _, ip := range ips {
			n.Addresses = append(n.Addresses, event.Address{IP: ip})
		}
		return n
	}
	other := node("node-b", netip.MustParseAddr("192.0.2.99"))
	for _, c := range []struct {
		name   string
		nodes  []event.Node
		host   string
		given  bool
		want   string
		warned string
	}{
		{"by its name", []event.Node{node("node-a"), other}, "node-a", false, "node-a", ""},
		{"by its short name", []event.Node{node("node-a.example.com"), other}, "node-a", false, "node-a.example.com", ""},
		{"none of them", []event.Node{other}, "vm-17", false, "vm-17", "this machine is none of the nodes in the file"},
		{"nearly one of them", []event.Node{other}, "node-c", false, "node-c", "--node node-b, if that is meant"},
		{"given, and none of them", []event.Node{other}, "nodeb", true, "nodeb", "--node node-b"},
		{"given", []event.Node{node("node-a"), other}, "node-a", true, "node-a", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told bytes.Buffer
			got := whichNode(c.nodes, c.host, c.given, slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelWarn})))
			if got != c.want || !strings.Contains(told.String(), c.warned) || c.warned == "" && told.Len() > 0 {
				t.Errorf("%q, told %q; want %q, %q", got, &told, c.want, c.warned)
			}
		})
	}
	if len(own) == 0 {
		t.Skip("this machine has no address but loopback") // the next case is about one
	}
	var told bytes.Buffer
	log := slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelWarn}))
	nodes := []event.Node{node("node-a", own[0]), other}
	if got := whichNode(nodes, "vm-17", false, log); got != "node-a" || told.Len() > 0 {
		t.Errorf("%q, told %q", got, &told)
	}
	if got := whichNode(nodes, "node-b", true, log); got != "node-b" || !strings.Contains(told.String(), "--node node-a") {
		t.Errorf("%q, told %q", got, &told)
	}
}

// TestDoctorsNetwork says which plugin there is, and what follows.
func TestDoctorsNetwork(t *testing.T) {
	range1 := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	nodes := []event.Node{
		{Name: "a", Plugin: "flannel", PodCIDRs: range1, PodCIDRsOwn: event.Known([]int{0, 1})},
		{Name: "b", Plugin: "calico", PodNets: range1, PodCIDRsOwn: event.Known([]int{})},
		{Name: "c", Plugin: "ovn-kubernetes", PodCIDRs: range1, PodCIDRsFrom: "k8s.ovn.org/node-subnets", PodCIDRsOwn: event.Known([]int{1, 2})},
		{Name: "d", PodCIDRs: range1}, {Name: "e", PodCIDRs: range1},
	}
	var b bytes.Buffer
	if err := writeNetwork(&b, nodes, "c"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"NETWORK, by the marks on 5 nodes\n", "no mark            2 nodes; ranges by podCIDRs; .0 and .1 of each are guessed",
		"flannel            1 node; ranges by podCIDRs; by its rule .0 and .1", "calico             1 node; podCIDRs name no node",
		"ovn-kubernetes     1 node; ranges by k8s.ovn.org/node-subnets; by its rule .1 and .2", "this machine is    c, by its name",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("not said: %q\n%s", want, &b)
		}
	}
}

// TestAwait ends with its context, whatever it waits for.
func TestAwait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hold := make(chan struct{})
	defer close(hold)
	cancel()
	if _, err := await(ctx, func() (int, error) { <-hold; return 1, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if n, err := await(t.Context(), func() (int, error) { return 1, nil }); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestNodesOfAFile reads what --nodes names, and gives up where there is none.
func TestNodesOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes.yaml")
	if err := os.WriteFile(file, []byte("- {name: a, addresses: [192.0.2.1]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if nodes, err := readNodes(t.Context(), file); err != nil || len(nodes) != 1 {
		t.Errorf("%v, %v", nodes, err)
	}
	_, err := readNodes(t.Context(), file+".not")
	var usage usageError
	if !errors.As(err, &usage) {
		t.Errorf("ended with %v", err)
	}
}
