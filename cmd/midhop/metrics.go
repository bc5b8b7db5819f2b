package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/midhop/midhop/tracer/export/prom"
)

// metricsServer answers /metrics, /healthz and /readyz.
type metricsServer struct {
	listener net.Listener
	scrape   func() prom.Scrape
	ready    func() error // nil: ready
}

// metricsHelp says what --metrics is, for every command that has it.
const metricsHelp = "serve /metrics, /healthz and /readyz on this `host:port`, in plain text to whoever asks; empty for nowhere"

// Default addresses: on loopback, beside each other.
const (
	agentMetrics = "127.0.0.1:9440"
	hubMetrics   = "127.0.0.1:9441"
)

// listenMetrics takes the address before anything else is started, so that a mistake is told at once.
func listenMetrics(address string, scrape func() prom.Scrape, ready func() error) (*metricsServer, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, usagef("--metrics %s: %w", address, err)
	}
	return &metricsServer{listener: l, scrape: scrape, ready: ready}, nil
}

// run serves until ctx ends. A nil server does nothing.
func (m *metricsServer) run(ctx context.Context, log *slog.Logger) {
	if m == nil {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		s := m.scrape()
		var text bytes.Buffer
		if err := s.Write(&text); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", prom.ContentType)
		_, _ = w.Write(text.Bytes())
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := m.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 14}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(m.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		log.Warn("metrics are not served any more", "error", err)
	}
}

// notYet is why something is not ready.
func notYet(closed <-chan struct{}, why string) error {
	select {
	case <-closed:
		return nil
	default:
		return errors.New(why)
	}
}
