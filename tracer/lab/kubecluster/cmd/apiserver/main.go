// Command apiserver is kube-apiserver with an etcd of its own inside: one process, one data directory, for tests.
package main

import (
	"fmt"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// Where etcd keeps its data and listens; everything else is a flag of kube-apiserver.
const (
	dirVar  = "KUBECLUSTER_ETCD_DIR"
	listens = "KUBECLUSTER_ETCD_URL"
)

func main() {
	etcd, err := startEtcd(os.Getenv(dirVar), os.Getenv(listens))
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
	code := cli.Run(app.NewAPIServerCommand())
	etcd.Close()
	os.Exit(code)
}

// startEtcd starts a server of one member. Debian's etcd 3.4 has no RequestWatchProgress, without which the API server
// refuses watch-list.
func startEtcd(dir, client string) (*embed.Etcd, error) {
	at, err := url.Parse(client)
	if err != nil || dir == "" || client == "" {
		return nil, fmt.Errorf("%s and %s are needed: %w", dirVar, listens, err)
	}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.UnsafeNoFsync = true // a test's data need not outlive the machine
	cfg.LogLevel = "error"
	cfg.ListenClientUrls = []url.URL{*at}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	peer := url.URL{Scheme: "unix", Host: "peer." + at.Host}
	cfg.ListenPeerUrls = []url.URL{peer}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err := <-e.Err():
		return nil, err
	case <-time.After(time.Minute):
		e.Close()
		return nil, fmt.Errorf("not ready after a minute")
	}
}
