package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Of a stream that brings nothing, though it stands at its end at most.
const (
	// cutAfter is how long it is nothing to speak of: a hub that starts again, a cluster that chooses a leader.
	cutAfter = 2 * time.Second
	// cutTold is when whoever reads a log is told.
	cutTold = 5 * time.Second
	// answerWait is how long a reader waits that wants what there is and no more.
	answerWait = 30 * time.Second
)

// CutOffError says that a stream cannot be read, or not on.
type CutOffError struct {
	Heard time.Time // of the last answer, or of the beginning
	Read  bool      // there was an answer
	Err   error
}

// Error implements error.
func (e *CutOffError) Error() string { return e.Err.Error() }
func (e *CutOffError) Unwrap() error { return e.Err }

// Effect says what follows from it.
func (e *CutOffError) Effect() string {
	if !e.Read {
		return "nothing was read"
	}
	return fmt.Sprintf("what the hub was told after %s was not read", e.Heard.UTC().Format(time.RFC3339))
}

// Remedy says what helps.
func (e *CutOffError) Remedy() string {
	var refused *RefusedError
	if errors.As(e.Err, &refused) {
		return refused.Remedy()
	}
	return "check that the hub runs and is reached from here; its log and --verbose say more"
}

// answered notes that a stream was read.
func (f *follower) answered() {
	f.heard, f.read = time.Now(), true
	if f.cut == nil {
		return
	}
	if f.told {
		f.conn.link.o.Log.Warn("the hub answers again", "stream", f.stream, "after", time.Since(f.cut.Heard).Round(time.Second))
	}
	f.setCut(nil)
	f.told = false
}

// unanswered notes that a stream was not read, and returns an error where whoever reads should not wait on.
func (f *follower) unanswered(err error) error {
	l := f.conn.link
	if l.over.Err() != nil {
		return f.cutOff(context.Cause(l.over))
	}
	if why := l.trouble(); why != nil {
		err = why
	}
	silent := time.Since(f.heard)
	if silent >= cutAfter {
		f.setCut(f.cutOff(err))
	}
	if silent >= cutTold {
		f.told = true
		l.tell(slog.LevelWarn, "nothing comes from the hub; asking goes on", err.Error(), "since", f.heard.UTC().Format(time.RFC3339))
	}
	if f.hasty && l.ends() && silent >= answerWait {
		return f.cutOff(fmt.Errorf("the hub has not answered for %s: %w", silent.Round(time.Second), err))
	}
	return nil
}

func (f *follower) cutOff(err error) *CutOffError {
	return &CutOffError{Heard: f.heard, Read: f.read, Err: err}
}

func (f *follower) setCut(e *CutOffError) {
	f.cut = e
	if f.onCut != nil {
		f.onCut(e)
	}
}
