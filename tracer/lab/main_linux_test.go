package lab

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"testing"
)

// The test binary plays the lab's children too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "lab-node":
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			if err := ChildMain(ctx, os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		case "fake-agent":
			fakeAgent(os.Args[2])
			return
		case "whole-lab":
			wholeLab()
			return
		}
	}
	// The labs that run side by side wait for the kernel's clocks, not for processors.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", "6") // a number
	}
	os.Exit(m.Run())
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
