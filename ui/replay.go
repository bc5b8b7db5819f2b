package ui

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/screen"
)

// Player is a recording that plays: what it has come to is the View's to show, this steers it. No method waits.
type Player interface {
	// Play says where it is.
	Play() screen.Play
	// Seek goes to a moment, forwards or backwards; the error says why that cannot be.
	Seek(t time.Time) error
	// Speed sets how fast it goes: 1 as it happened, 0 as fast as it can.
	Speed(x float64)
	// Pause stops it, or lets it go on.
	Pause(paused bool)
}

// Play is where a recording is; see [Player].
type Play = screen.Play

// Moment and Level are what a [Play] knows of a recording.
type (
	Moment = screen.Moment
	Level  = screen.Level
)

var errLive = errors.New("this is live: only a recording can be steered (midhop replay FILE)")

// step is how far . and , go.
const step = time.Second

// speeds are what + and - go through.
var speeds = []float64{0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100}

// playKeys is the key map of a recording; it works on every screen.
func (a *app) playKeys() []screen.Binding {
	if a.Player == nil {
		return nil
	}
	seek := func(to func(p *Play) time.Time) func(*screen.Frame) screen.Action {
		return func(f *screen.Frame) screen.Action { return screen.Action{Say: a.seek(to(f.Play))} }
	}
	speed := func(by int) func(*screen.Frame) screen.Action {
		return func(f *screen.Frame) screen.Action {
			x := nextSpeed(f.Play.Speed, by)
			a.Player.Speed(x)
			return screen.Action{Say: speedWords(x)}
		}
	}
	return []screen.Binding{
		{Keys: []string{"space"}, Short: "play", Help: "stop the recording, or let it go on", Do: func(f *screen.Frame) screen.Action {
			a.Player.Pause(!f.Play.Paused)
			return screen.Action{}
		}},
		{Keys: []string{"."}, Short: "step", Help: "one second on, and stop there", Do: seek(func(p *Play) time.Time {
			a.Player.Pause(true)
			return from(p).Add(step)
		})},
		{Keys: []string{","}, Help: "one second back, and stop there", Do: seek(func(p *Play) time.Time {
			a.Player.Pause(true)
			return from(p).Add(-step)
		})},
		{Keys: []string{"+"}, Short: "faster", Help: "play faster", Do: speed(1)},
		{Keys: []string{"-"}, Help: "play slower", Do: speed(-1)},
		{Keys: []string{"]"}, Short: "next incident", Help: "go to where the next incident opens", Do: a.jump(true)},
		{Keys: []string{"["}, Help: "go to where the incident before opened", Do: a.jump(false)},
		{Keys: []string{"0"}, Help: "go to the beginning", Do: seek(func(p *Play) time.Time { return p.Begin })},
		{Keys: []string{"T"}, Help: "type a moment to go to", Do: func(*screen.Frame) screen.Action {
			return screen.Action{Prompt: ':', Begin: "goto "}
		}},
	}
}

// from is the moment that a step counts from: where it is on the way to, if it is.
func from(p *Play) time.Time {
	if !p.Seeking.IsZero() {
		return p.Seeking
	}
	return p.At
}

func nextSpeed(now float64, by int) float64 {
	at := len(speeds) - 1 // as fast as it goes is beyond the last
	if now <= 0 && by < 0 {
		return speeds[at]
	}
	for i, x := range speeds {
		if x >= now {
			at = i
			break
		}
	}
	return speeds[min(max(at+by, 0), len(speeds)-1)]
}

func speedWords(x float64) string {
	if x <= 0 {
		return "as fast as it goes"
	}
	return fmt.Sprintf("speed x%g", x)
}

func (a *app) seek(t time.Time) string {
	if err := a.Player.Seek(t); err != nil {
		return err.Error()
	}
	return "to " + report.Context{Now: t, Zone: a.frame.Zone}.Clock(t)
}

func (a *app) jump(forward bool) func(*screen.Frame) screen.Action {
	return func(f *screen.Frame) screen.Action {
		m, ok := f.Play.Jump(from(f.Play), '!', forward)
		switch {
		case ok:
			return screen.Action{Say: a.seek(m.After) + ": " + m.Text}
		case f.Play.Surveyed < 1:
			return screen.Action{Say: fmt.Sprintf("no incident there as far as it was looked through (%d %%)", int(f.Play.Surveyed*100))}
		case forward:
			return screen.Action{Say: "no incident opens after this"}
		}
		return screen.Action{Say: "no incident opened before this"}
	}
}

// moment reads where to go: a time of day on the recording's day, a time, or +30s and -30s from where it is.
func moment(text string, p *Play, cx report.Context) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && strings.ContainsAny(text[:1], "+-") {
		return from(p).Add(d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	zone := cx.Zone
	if zone == nil {
		zone = time.UTC
	}
	at := from(p).In(zone)
	for _, layout := range []string{"15:04:05.999999999", "15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return time.Date(at.Year(), at.Month(), at.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone), nil
		}
	}
	return time.Time{}, fmt.Errorf(":goto wants a time of day such as 11:27:04, +30s or -30s")
}
