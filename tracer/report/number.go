package report

import (
	"fmt"
	"strconv"
	"time"
)

// Context is what words about moments need: the moment that they are read, and the reader's time zone.
type Context struct {
	Now      time.Time      // live: the wall clock; replay: the model's clock
	Zone     *time.Location // nil: UTC
	Relative bool           // moments are told by how far they are from Now
}

// Time writes a moment as 11:29:34, "?" where it is unknown; another day than today's comes with its date. Relative to
// now it is "3m08s ago" or "in 2m19s".
func (cx Context) Time(t time.Time) string {
	switch {
	case t.IsZero():
		return "?"
	case cx.Relative && t.After(cx.Now):
		return "in " + Span(t.Sub(cx.Now))
	case cx.Relative:
		return Span(cx.Now.Sub(t)) + " ago"
	}
	return cx.Clock(t)
}

// Clock is Time, but never relative.
func (cx Context) Clock(t time.Time) string {
	t = cx.in(t)
	if now := cx.in(cx.Now); !cx.Now.IsZero() && (t.YearDay() != now.YearDay() || t.Year() != now.Year()) {
		return t.Format("01-02 15:04:05")
	}
	return t.Format("15:04:05")
}

// Millis writes a moment in twelve columns as 11:29:34.118, "?" where it is unknown; relative to now as -9.450s.
func (cx Context) Millis(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	if cx.Relative {
		d := t.Sub(cx.Now)
		if d.Abs() < time.Hour {
			return fmt.Sprintf("%11.3fs", d.Seconds())
		}
		return fmt.Sprintf("%12s", Span(d))
	}
	return cx.in(t).Format("15:04:05.000")
}

func (cx Context) in(t time.Time) time.Time {
	if cx.Zone == nil {
		return t.UTC()
	}
	return t.In(cx.Zone)
}

// Ago writes how long ago a moment was, as [Span]; "?" where it is unknown, and never a negative span.
func (cx Context) Ago(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return Span(max(cx.Now.Sub(t), 0))
}

// Count writes a number with thousands separated: 10,130.
func Count[N int | uint64 | int64 | uint32](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	neg := ""
	if s[0] == '-' {
		neg, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return neg + s
}

// Short writes a number in at most four characters: 812, 1.2k, 61k, 1.4M. It cuts and never rounds up, so that a table
// which is not full never looks full.
func Short(n uint64) string {
	for _, unit := range []struct {
		size uint64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if n < unit.size {
			continue
		}
		if n < 10*unit.size {
			return strconv.FormatUint(n/unit.size, 10) + "." + strconv.FormatUint(n%unit.size*10/unit.size, 10) + unit.name
		}
		return strconv.FormatUint(n/unit.size, 10) + unit.name
	}
	return strconv.FormatUint(n, 10)
}

// Percent writes a share as "23 %"; a share that is not nothing never reads "0 %", and one that is not all never reads
// "100 %". A total of zero has no shares.
func Percent(part, total int) string {
	switch {
	case total <= 0:
		return ""
	case part <= 0:
		return "0 %"
	case part*200 < total:
		return "<1 %"
	case part < total && (part*200+total)/(2*total) >= 100:
		return "99 %"
	}
	return strconv.Itoa((part*200+total)/(2*total)) + " %"
}

// Span writes a duration for a column: 0.2s, 12s, 3m08s, 2h14m, 3d04h. It cuts and never rounds up.
func Span(d time.Duration) string {
	if d < 0 {
		return "-" + Span(-d)
	}
	s := int64(d / time.Second)
	switch {
	case s < 10:
		return fmt.Sprintf("%d.%ds", s, d%time.Second/(100*time.Millisecond))
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 48*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// Age writes how old something is in one unit: 45m, 21h, 3d.
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// Spoken writes a duration for a sentence: 0.1 s, 150 s, 15 min, 2 h 11 min. It cuts and never rounds up.
func Spoken(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		tenths := d / (100 * time.Millisecond)
		if tenths%10 == 0 {
			return fmt.Sprintf("%d s", tenths/10)
		}
		return fmt.Sprintf("%d.%d s", tenths/10, tenths%10)
	case d < 300*time.Second:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d%time.Hour/time.Minute == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}

// plural writes "1 socket", "2 sockets".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + one + "s"
}

// firstFew writes at most n of names, then how many are missing: "ws/chat, shop/cart +3".
func firstFew(names []string, n int) string {
	s := ""
	for i, name := range names {
		if i == n {
			return fmt.Sprintf("%s +%d", s, len(names)-n)
		}
		if i > 0 {
			s += ", "
		}
		s += Clean(name)
	}
	return s
}
