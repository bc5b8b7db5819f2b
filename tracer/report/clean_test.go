package report

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "",
		"gke-pool-1-0a1b":                       "gke-pool-1-0a1b",
		"\x1b[31mred":                           `\x1b[31mred`,
		"\x1b]52;c;aGk=\x07":                    `\x1b]52;c;aGk=\a`,
		"a\nb\tc\r":                             `a\nb\tc\r`,
		"\x7f\u0085\u009b31m":                   `\x7f\u0085\u009b31m`,
		"a\u202eb\u2066c":                       `a\u202eb\u2066c`,
		"zero\u200bwidth\ufeff":                 `zero\u200bwidth\ufeff`,
		"no\u00a0break":                         `no\u00a0break`,
		"bad\xffutf8\xc3":                       `bad\xffutf8\xc3`,
		"世界é":                                   "世界é",
		"e\u0301":                               "e\u0301",
		"\u0301first":                           "first", // nothing to stand on
		"\U000e0041":                            `\U000e0041`,
		"filler\u3164":                          `filler\u3164`,
		`\x1b is already escaped`:               `\x1b is already escaped`,
		"x\u0336\u0336\u0336\u0336\u0336\u0336": "x\u0336\u0336\u0336\u0336",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Clean(strings.Repeat("n", 5000)); utf8.RuneCountInString(got) > maxClean+1 {
		t.Errorf("a name of 5,000 characters keeps %d", len(got))
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"node-a", "\x1b[0m", "\u202e", "\xff", "世界", "e\u0301\u0301\u0301\u0301\u0301\u0301", "\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) || unicode.IsSpace(r) && r != ' ' {
				t.Fatalf("%q keeps %U", got, r)
			}
		}
		if again := Clean(got); again != got && utf8.RuneCountInString(got) <= maxClean {
			t.Fatalf("cleaned twice %q becomes %q", got, again)
		}
		for width := range 12 {
			if w := Width(Fit(got, width)); w > width {
				t.Fatalf("Fit to %d takes %d", width, w)
			}
			if w := Width(FitMiddle(got, width)); w > width {
				t.Fatalf("FitMiddle to %d takes %d", width, w)
			}
		}
		text := ""
		for _, line := range (Line{{got, Plain}}).Wrap(10, 2) {
			if line.Width() > 10 {
				t.Fatalf("a wrapped line takes %d columns: %q", line.Width(), line.String())
			}
			text += line.String()
		}
		if strings.ReplaceAll(text, " ", "") != strings.ReplaceAll(got, " ", "") {
			t.Fatalf("wrapping %q gives %q", got, text)
		}
	})
}

func TestFit(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Fit("payments", 8), "payments"},
		{Fit("payments", 5), "paym~"},
		{Fit("世界世界", 4), "世~"},
		{Fit("x", 0), ""},
		{FitMiddle("gke-prod-pool-2-0a1b2c3d-4e5f", 16), "gke-pr~2c3d-4e5f"},
		{FitMiddle("payments/api-7f9c", 17), "payments/api-7f9c"},
		{FitMiddle("ip-10-146-7-30.ec2.internal", 15), "ip-10-146-7-30~"},
		{FitMiddle("ip-10-146-107-230.ec2.internal", 15), "ip-10-~-107-230"},
		{Line{{"in", Bad}, {"cident", Plain}}.Fit(5).String(), "inci~"},
		{Line{{"in", Bad}, {"cident", Plain}}.Fit(2).String(), "i~"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}
