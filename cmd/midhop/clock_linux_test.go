package main

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// TestClockIsSet: somebody sets the machine's clock an hour ahead and back before a real node dies under a running midhop, at
// that moment, and when it has been named. It is named once, as soon as ever, nothing is retracted, and every moment that is
// told is right by the clock as it is now, once what the stream says of the setting is added.
func TestClockIsSet(t *testing.T) {
	onlyInAGuest(t)
	type setting struct {
		at event.Type    // after the first such line somebody sets the clock, when the setting before was told
		to time.Duration // so far from where it was at first
	}
	const agents = 3 // of the lab's nodes, one each
	for name, settings := range map[string][]setting{
		"ahead, then back": {{event.StreamSynced, time.Hour}, {event.LabFault, -time.Hour}, {event.IncidentOpened, time.Hour}},
		"back, then ahead": {{event.StreamSynced, -time.Hour}, {event.LabFault, time.Hour}, {event.IncidentOpened, -time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			var off time.Duration // of the clock from where it was at first
			var fault time.Time   // as the clock would show it that was at first
			t.Cleanup(func() { setClock(t, -off) })
			var left []setting
			var r labRun
			for try := range 3 { // where emulation on a busy host is too slow for the lab to end as it should
				if try > 0 {
					t.Logf("the clock was not set at %s: once more", left[0].at)
					setClock(t, -off)
					off = 0
				}
				left = settings
				met, looking, told := make(map[event.Type]bool), make(map[string]bool), 0
				r = runLabAnd(t, func(e *event.Event) {
					if e.Type == event.LabFault {
						fault = time.Now().Round(0).Add(-off)
					}
					// The nodes of a lab share one clock: whoever begins after it was set knows nothing of how it stood before.
					if b, ok := e.Body.(*event.Synced); ok && b.Fact == "sockets" {
						looking[e.Source] = true
					}
					if b, ok := e.Body.(*event.Heartbeat); ok && b.ClockSet.OK {
						told++
					}
					met[e.Type] = true
					// Where lines are read late, the next one is here at once: of two settings within a look only their sum is told.
					if len(left) > 0 && met[left[0].at] && len(looking) == agents && told == len(settings)-len(left) {
						setClock(t, left[0].to-off)
						off, left = left[0].to, left[1:]
					}
					// To the end, since the clock is set once more when the node has been named, however late that is read here.
				}, "node-gone", "--connections", "50", "--fault-after", "8s", "--duration", "23s", "--whole", "-o", "jsonl")
				if len(left) == 0 {
					break
				}
			}
			if len(left) > 0 {
				t.Fatalf("the clock was not set at %s", left[0].at)
			}
			// The guest is emulated: what takes a second elsewhere may take ten here, and more where the host is busy. What a
			// setting breaks is off by an hour.
			opened, last := r.named(t, 30*time.Second)
			r.nobodyElse(t)
			told := r.clockSet()
			if len(told) != len(settings) {
				t.Fatalf("told as set by %v, want %v", told, settings)
			}
			for i, s := range settings {
				if (told[i] - s.to).Abs() > 100*time.Millisecond {
					t.Errorf("told as set by %v, want %v", told, settings)
				}
			}
			// By the clock as it is now: the lab's line is read some time after the fault, on the slowest machine a second.
			now := last.SilentSince.V.Add(told[len(told)-1])
			if late := fault.Add(off).Sub(now); late < -time.Second || late > 30*time.Second {
				t.Errorf("silent since %s by the clock as it is now; the fault was %s after that", now, late)
			}
			r.givesUpInTime(t, opened)
			r.givesUpInTime(t, last)
		})
	}
}

// onlyInAGuest skips a test that sets the clock of the machine, unless the machine is a guest that ends with its tests.
func onlyInAGuest(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/jobs"); os.Getenv(guestVariable) == "" || err != nil { // the guest's list of what to run
		t.Skip("sets the machine's clock, so it runs in a guest only: make test-vm")
	}
}

// setClock sets the machine's clock ahead, or back.
func setClock(t *testing.T, by time.Duration) {
	t.Helper()
	if by == 0 {
		return
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Fatal(err)
	}
	next := unix.NsecToTimespec(now.Nano() + int64(by))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &next); err != nil {
		t.Fatal(err)
	}
}

// nobodyElse holds the run to having called nobody silent but the fault's target, and to having taken nothing back.
func (r labRun) nobodyElse(t *testing.T) {
	t.Helper()
	_, fault := r.fault(t)
	for _, e := range r.of(event.StreamGap) {
		if gap := e.Body.(*event.Gap); gap.Peer != "agent/"+fault.Target && gap.Silent.Duration() > time.Minute { // less is a busy machine
			t.Errorf("%s is called silent for %s", gap.Peer, gap.Silent.Duration())
		}
	}
	for _, e := range r.of(event.IncidentClosed) {
		t.Errorf("the incident is closed: %s", e.Body.(*event.IncidentFinding).Incident.Why)
	}
	for i := 1; i < len(r.events); i++ {
		if d := r.events[i].Time.Sub(r.events[i-1].Time); d.Abs() > 30*time.Minute {
			t.Errorf("line %d, %s of %s, is of %s after the one before it", i+1, r.events[i].Type, r.events[i].Source, d)
		}
	}
}

// clockSet returns by how much the stream says that the clock was set, each time that it does.
func (r labRun) clockSet() (told []time.Duration) {
	for _, e := range r.of(event.StreamHeartbeat) {
		if b := e.Body.(*event.Heartbeat); b.ClockSet.OK {
			told = append(told, b.ClockSet.V.Duration())
		}
	}
	return told
}

// givesUpInTime holds an incident's deadlines to what the lab's sockets are set to: idle ones notice within 150 s of what they
// received last, writing ones after a quarter of an hour.
func (r labRun) givesUpInTime(t *testing.T, in event.Incident) {
	t.Helper()
	at, _ := r.fault(t)
	first, last := in.FirstDeadline.V.Sub(at), in.LastDeadline.V.Sub(at)
	if !in.FirstDeadline.OK || first < time.Minute || first > 152*time.Second {
		t.Errorf("the first gives up %s after the fault, want two and a half minutes at most", first)
	}
	if !in.LastDeadline.OK || last < 13*time.Minute || last > 17*time.Minute {
		t.Errorf("the last gives up %s after the fault, want a quarter of an hour", last)
	}
	for _, e := range r.of(event.TCPStall) {
		s := e.Body.(*event.Stall)
		if left := s.Deadline.V.Sub(e.Time); s.Deadline.OK && (left < 0 || left > 17*time.Minute) {
			t.Errorf("%s gives up %s after it stalled", s.Socket.Local, left)
		}
	}
}
