package report

import (
	"testing"
	"time"
)

func TestNumbers(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	at := time.Date(2026, 11, 23, 11, 29, 34, 118_900_000, time.UTC)
	cx := Context{Now: at.Add(3*time.Minute + 8*time.Second)}
	for _, test := range []struct{ got, want string }{
		{Count(0), "0"}, {Count(999), "999"}, {Count(1234), "1,234"}, {Count(10130), "10,130"}, {Count(-1234567), "-1,234,567"},
		{Short(0), "0"}, {Short(812), "812"}, {Short(1290), "1.2k"}, {Short(61999), "61k"}, {Short(262144), "262k"}, {Short(1_400_000), "1.4M"},
		{Percent(4225, 18714), "23 %"}, {Percent(0, 10), "0 %"}, {Percent(1, 1000), "<1 %"}, {Percent(999, 1000), "99 %"},
		{Percent(1000, 1000), "100 %"}, {Percent(0, 0), ""}, {Percent(1, 200), "1 %"},
		{Span(0), "0.0s"}, {Span(204 * time.Millisecond), "0.2s"}, {Span(9990 * time.Millisecond), "9.9s"}, {Span(42 * time.Second), "42s"},
		{Span(3*time.Minute + 8*time.Second), "3m08s"}, {Span(2*time.Hour + 14*time.Minute + 59*time.Second), "2h14m"},
		{Span(76 * time.Hour), "3d04h"}, {Span(-3 * time.Second), "-3.0s"},
		{Age(59 * time.Second), "59s"}, {Age(45 * time.Minute), "45m"}, {Age(21*time.Hour + 59*time.Minute), "21h"}, {Age(72 * time.Hour), "3d"}, {Age(-time.Second), "0s"},
		{Spoken(100 * time.Millisecond), "0.1 s"}, {Spoken(5 * time.Second), "5 s"}, {Spoken(150 * time.Second), "150 s"},
		{Spoken(924600 * time.Millisecond), "15 min"}, {Spoken(7875 * time.Second), "2 h 11 min"}, {Spoken(-time.Second), "0 s"},
		{cx.Time(at), "11:29:34"}, {cx.Millis(at), "11:29:34.118"}, {cx.Ago(at), "3m08s"}, {cx.Ago(cx.Now.Add(time.Second)), "0.0s"},
		{cx.Time(time.Time{}), "?"}, {cx.Millis(time.Time{}), "?"}, {cx.Ago(time.Time{}), "?"},
		{cx.Time(at.AddDate(0, 0, -1)), "11-22 11:29:34"},
		{Context{Now: at, Zone: zone}.Time(at), "12:29:34"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}
