package main

import (
	"context"
	"io"
	"log/slog"
)

// logTo returns a logger for people: warnings, or everything.
func logTo(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// details returns a logger for what a library says on its own account: nothing of it is more than a detail, whatever it
// thinks.
func details(log *slog.Logger) *slog.Logger { return slog.New(detailHandler{log.Handler()}) }

type detailHandler struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h detailHandler) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (h detailHandler) Handle(ctx context.Context, r slog.Record) error {
	if !h.Enabled(ctx, r.Level) {
		return nil // a logger of client-go's kind does not ask where it has an error to tell
	}
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h detailHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return detailHandler{h.Handler.WithAttrs(a)}
}

// WithGroup implements slog.Handler.
func (h detailHandler) WithGroup(name string) slog.Handler {
	return detailHandler{h.Handler.WithGroup(name)}
}
