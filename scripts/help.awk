# Prints the targets of a Makefile from its own comments: "##@ Section" begins a
# section, "target: … ## text" describes a target. -v color=1 for a terminal.
BEGIN {
	if (color) { bold = "\033[1m"; name = "\033[36m"; plain = "\033[0m" }
	printf "\n%sSealmesh%s seals every connection between workloads and proves it from the wire.\n", bold, plain
}
/^##@ / { printf "\n%s%s%s\n", bold, substr($0, 5), plain }
/^[a-z]+:.*## / {
	target = substr($0, 1, index($0, ":") - 1)
	text = substr($0, index($0, "## ") + 3)
	printf "  %smake %-9s%s %s\n", name, target, plain, text
}
END { printf "\n" }
