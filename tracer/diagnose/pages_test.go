package diagnose

import (
	"os"
	"strings"
	"testing"
)

// TestPages holds every rule to a page that says what it means, and what it is told from.
func TestPages(t *testing.T) {
	rules := []string{
		ruleNodeGone, ruleNodeRebooted, ruleNATLost, ruleIdleExpired, ruleVIPMoved, rulePodGone, ruleClientGone,
		rulePeerNotReading, ruleLocalNode, ruleFrontGone, ruleConntrackFull, ruleSNATExhausted, ruleNodeLossy, rulePMTU,
		ruleServiceDown, rulePeerUnreachable, ruleUnexplained,
	}
	index, err := os.ReadFile("../../docs/rules/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		page, err := os.ReadFile("../../docs/rules/" + r + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		for _, part := range []string{"# " + r, "What it means", "What it looks like", "Evidence for", "What to do", "Limits"} {
			if !strings.Contains(string(page), part) {
				t.Errorf("%s.md has no %q", r, part)
			}
		}
		if !strings.Contains(string(index), "("+r+".md)") {
			t.Errorf("the index has no %s", r)
		}
	}
	files, err := os.ReadDir("../../docs/rules")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(rules)+1 {
		t.Errorf("%d pages for %d rules", len(files)-1, len(rules))
	}
}
