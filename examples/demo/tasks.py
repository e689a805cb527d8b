"""What the agent is told: its instructions, and the three messages. A real model and the script read the same."""

INBOX = "/home/agent/inbox"
STUDY = "/home/agent/study"
REPORT = f"{STUDY}/report.md"
CSV = f"{INBOX}/airports.csv"
VARIABLE = "AIRPORTS"
PACKAGE = "tabulate"

HIGH_FEET = 8000
"""What the second message calls high."""
COUNTRIES = 10
HIGHEST = 10
ZONES = 5

INSTRUCTIONS = """\
You work at a Debian computer through its shell. It has Python 3 with pip and no network. The working directory and \
exported variables stay from command to command. Your computer may be replaced at any time; then you are told what \
survived and what did not, and you run again what was not run. Say only what you have seen in a command's output.\
"""

FIRST = f"""\
In {INBOX} are airports.csv (an airport a line; its first line names the columns; elevations are in feet, and 0 means \
that nobody knows) and the wheel of a small Python package, {PACKAGE}. Please install the wheel, make the directory \
{STUDY} and work there from now on, with {VARIABLE} exported as the path of the CSV. Write a script that reads the \
file ${VARIABLE} names and writes {REPORT}, its tables made with {PACKAGE}: how many airports there are, and for the \
{COUNTRIES} countries with the most airports a table of country code, number of airports, and median and highest of \
the known elevations, to one decimal and without thousands separators.\
"""

SECOND = f"""\
Please add a section to the report: how many airports lie higher than {HIGH_FEET} feet, and a table of the {HIGHEST} \
highest airports with name, country code and elevation in feet. Use what you have written already.\
"""

THIRD = f"""\
Without setting anything up again: which directory are you in, what is ${VARIABLE}, and which version of {PACKAGE} is \
installed? Then add a last section to the report: how many different time zones the airports lie in, and a table of \
the {ZONES} time zones with the most airports.\
"""
